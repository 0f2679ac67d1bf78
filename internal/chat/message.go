package chat

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/nikolalohinski/gonja/v2/exec"
)

// Message is a turn of a conversation.
type Message struct {
	Role, Content string
	// Object, when not nil, is the whole message as JSON, with more than role and content; these two are not read then.
	Object json.RawMessage
}

// UnmarshalJSON keeps the object whole and checks that it has a role.
func (m *Message) UnmarshalJSON(text []byte) error {
	var known struct {
		Role    *string         `json:"role"`
		Content json.RawMessage `json:"content"`
	}
	if err := json.Unmarshal(text, &known); err != nil {
		return err
	}
	if known.Role == nil {
		return errors.New("the message has no role")
	}
	m.Role, m.Content = *known.Role, ""
	if len(known.Content) > 0 && known.Content[0] == '"' {
		if err := json.Unmarshal(known.Content, &m.Content); err != nil {
			return err
		}
	}
	m.Object = append(json.RawMessage(nil), text...)
	return nil
}

// value is the message as a template sees it.
func (m Message) value() (any, error) {
	if m.Object == nil {
		pair := func(key, value string) *exec.Pair {
			return &exec.Pair{Key: exec.AsValue(key), Value: exec.AsValue(value)}
		}
		return &exec.Dict{Pairs: []*exec.Pair{pair("role", m.Role), pair("content", m.Content)}}, nil
	}
	value, err := decodeJSON(m.Object)
	if err != nil {
		return nil, err
	}
	if _, ok := value.(*exec.Dict); !ok {
		return nil, fmt.Errorf("%.40s is no JSON object", m.Object)
	}
	return value, nil
}
