package tokenizer

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"unicode/utf8"
)

// Piece types of sentencepiece_model.proto, ModelProto.SentencePiece.Type.
const (
	pieceNormal      = 1
	pieceUnknown     = 2
	pieceControl     = 3
	pieceUserDefined = 4
	pieceUnused      = 5
	pieceByte        = 6
)

// spPiece is one entry of the vocabulary; its id is its index.
type spPiece struct {
	text  string
	score float32
	kind  uint64
}

// spModel is the part of ModelProto that matters here, with the defaults of sentencepiece_model.proto.
type spModel struct {
	pieces []spPiece

	modelType  uint64 // 1 unigram, 2 BPE, 3 word, 4 char
	suffix     bool   // treat_whitespace_as_suffix
	bos        string // bos_piece
	normalizer string // name
	charsmap   int    // bytes of precompiled_charsmap
	dummy      bool   // add_dummy_prefix
	collapse   bool   // remove_extra_whitespaces
	escape     bool   // escape_whitespaces
}

// field is one field of a protobuf message: a varint, or bytes; a 32-bit value is given as its bits.
type field struct {
	number int
	value  uint64
	bytes  []byte
}

var errProtobuf = errors.New("not a SentencePiece model: damaged protobuf")

// fields calls each for the fields of a message in order (protobuf.dev/programming-guides/encoding).
func fields(message []byte, each func(field) error) error {
	for len(message) > 0 {
		key, n := binary.Uvarint(message)
		if n <= 0 || key>>3 == 0 || key>>3 > math.MaxInt32 {
			return errProtobuf
		}
		message = message[n:]
		f := field{number: int(key >> 3)}
		size := 0
		switch key & 7 {
		case 0:
			if f.value, size = binary.Uvarint(message); size <= 0 {
				return errProtobuf
			}
		case 1:
			size = 8
		case 5:
			size = 4
		case 2:
			length, n := binary.Uvarint(message)
			if n <= 0 || length > uint64(len(message)-n) {
				return errProtobuf
			}
			size = n + int(length)
			f.bytes = message[n:size]
		default:
			return errProtobuf
		}
		if size > len(message) {
			return errProtobuf
		}
		if key&7 == 5 {
			f.value = uint64(binary.LittleEndian.Uint32(message))
		}
		if err := each(f); err != nil {
			return err
		}
		message = message[size:]
	}
	return nil
}

func parseModel(content []byte) (*spModel, error) {
	m := &spModel{modelType: 1, bos: "<s>", dummy: true, collapse: true, escape: true}
	return m, fields(content, func(f field) error {
		switch f.number {
		case 1:
			return m.addPiece(f.bytes)
		case 2:
			return fields(f.bytes, m.trainerField)
		case 3:
			return fields(f.bytes, m.normalizerField)
		}
		return nil
	})
}

func (m *spModel) addPiece(message []byte) error {
	p := spPiece{kind: pieceNormal}
	err := fields(message, func(f field) error {
		switch f.number {
		case 1:
			p.text = string(f.bytes)
		case 2:
			p.score = math.Float32frombits(uint32(f.value))
		case 3:
			p.kind = f.value
		}
		return nil
	})
	m.pieces = append(m.pieces, p)
	return err
}

func (m *spModel) trainerField(f field) error {
	switch f.number {
	case 3:
		m.modelType = f.value
	case 24:
		m.suffix = f.value != 0
	case 46:
		m.bos = string(f.bytes)
	}
	return nil
}

func (m *spModel) normalizerField(f field) error {
	switch f.number {
	case 1:
		m.normalizer = string(f.bytes)
	case 2:
		m.charsmap = len(f.bytes)
	case 3:
		m.dummy = f.value != 0
	case 4:
		m.collapse = f.value != 0
	case 5:
		m.escape = f.value != 0
	}
	return nil
}

// check refuses what this package does not do.
func (m *spModel) check() error {
	if len(m.pieces) == 0 {
		return errors.New("not a SentencePiece model: it has no pieces")
	}
	if m.modelType != 2 {
		name := map[uint64]string{1: "unigram", 3: "word", 4: "char"}[m.modelType]
		return fmt.Errorf("model_type %d (%s) is not supported; supported: BPE", m.modelType, name)
	}
	if m.charsmap > 0 {
		return fmt.Errorf("normalizer %q is not supported; supported: identity", m.normalizer)
	}
	if m.suffix {
		return errors.New("treat_whitespace_as_suffix is not supported")
	}
	if !m.escape {
		return errors.New("escape_whitespaces false is not supported")
	}
	for i, p := range m.pieces {
		if p.kind < pieceNormal || p.kind > pieceByte || p.kind == pieceUnused {
			return fmt.Errorf("piece %d %q has type %d, which is not supported", i, p.text, p.kind)
		}
		if p.text == "" || !utf8.ValidString(p.text) || p.score != p.score {
			return fmt.Errorf("piece %d %q is empty, not UTF-8 or without a score", i, p.text)
		}
	}
	return nil
}

// readModel reads a SentencePiece BPE model.
//
// The unknown and control pieces become added tokens that are matched normalized, as in the tokenizer.json that
// Hugging Face converts from such a model: "</s>" is the special token after a space or where a prompt's text begins,
// and characters elsewhere. User-defined pieces are matched wherever they stand, before anything is merged.
func readModel(content []byte) (*Tokenizer, error) {
	model, err := parseModel(content)
	if err != nil {
		return nil, err
	}
	if err := model.check(); err != nil {
		return nil, err
	}
	t := &Tokenizer{bos: noToken, prepend: model.dummy, collapse: model.collapse}
	vocab := make(map[string]int32, len(model.pieces))
	for i, p := range model.pieces {
		if other, ok := vocab[p.text]; ok {
			return nil, fmt.Errorf("pieces %d and %d are both %q", other, i, p.text)
		}
		vocab[p.text] = int32(i)
		if p.kind == pieceControl && p.text == model.bos {
			t.bos = int32(i)
		}
	}
	if err := t.setVocabulary(vocab, nil); err != nil {
		return nil, err
	}
	m, err := model.markModel(vocab)
	if err != nil {
		return nil, err
	}
	t.encode = m.encode
	model.addTokens(t)
	t.decoder = t.newDecoder()
	strip := 0
	if model.dummy {
		strip = 1
	}
	t.decoder.finish(strip)
	return t, nil
}

// addTokens makes the added tokens.
func (m *spModel) addTokens(t *Tokenizer) {
	var list []addedToken
	for i, p := range m.pieces {
		switch p.kind {
		case pieceUnknown, pieceControl:
			list = append(list, addedToken{ID: int32(i), Content: p.text, Normalized: true, Special: true})
		case pieceUserDefined:
			list = append(list, addedToken{ID: int32(i), Content: p.text, Normalized: true, asPiece: true})
		}
	}
	prefix := ""
	if m.dummy {
		prefix = wordMark
	}
	t.added = newAddedTokens(list, true, prefix)
}

// markModel makes the merges. SentencePiece merges any two neighbours that together are a normal piece, the best score
// first and of equals the leftmost; so every way to cut a piece in two pieces is a merge, ranked by the piece's score.
// A character that only occurs inside pieces gets an id behind the vocabulary, so that it can take part.
func (m *spModel) markModel(vocab map[string]int32) (*markModel, error) {
	mm := newMarkModel(len(m.pieces))
	mm.marks, mm.fuse = true, true
	if err := m.setFallback(mm); err != nil {
		return nil, err
	}
	parts := make(map[string]int32, len(m.pieces))
	for i, p := range m.pieces {
		if p.kind == pieceNormal {
			parts[p.text] = int32(i)
		}
	}
	next := int32(len(m.pieces))
	for _, p := range m.pieces {
		if p.kind != pieceNormal || utf8.RuneCountInString(p.text) < 2 {
			continue
		}
		for _, r := range p.text {
			if _, ok := parts[string(r)]; !ok {
				parts[string(r)] = next
				next++
			}
		}
		mm.addJoins(p.text)
	}
	for text, id := range parts {
		if r, size := utf8.DecodeRuneInString(text); size == len(text) && r != ' ' {
			mm.addChar(r, id)
		}
	}
	mm.merges = m.table(parts)
	return mm, nil
}

// table makes the merges of all pieces.
func (m *spModel) table(parts map[string]int32) mergeTable {
	ranks := m.ranks()
	type merge struct{ left, right, id int32 }
	var merges []merge
	for i, p := range m.pieces {
		if p.kind != pieceNormal {
			continue
		}
		for cut := range p.text {
			left, okLeft := parts[p.text[:cut]]
			right, okRight := parts[p.text[cut:]]
			if okLeft && okRight {
				merges = append(merges, merge{left, right, int32(i)})
			}
		}
	}
	t := newMergeTable(len(merges))
	for _, merge := range merges {
		t.set(merge.left, merge.right, ranks[merge.id], merge.id)
	}
	return t
}

// ranks gives each piece its place in the order of falling scores; equal scores have the same place.
func (m *spModel) ranks() []uint32 {
	order := make([]int, len(m.pieces))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int {
		switch {
		case m.pieces[a].score > m.pieces[b].score:
			return -1
		case m.pieces[a].score < m.pieces[b].score:
			return 1
		}
		return 0
	})
	ranks := make([]uint32, len(order))
	for i := 1; i < len(order); i++ {
		ranks[order[i]] = ranks[order[i-1]]
		if m.pieces[order[i]].score != m.pieces[order[i-1]].score {
			ranks[order[i]]++
		}
	}
	return ranks
}

// setFallback finds the unknown piece and the 256 byte pieces.
func (m *spModel) setFallback(mm *markModel) error {
	var ids [256]int32
	bytesOf := make(map[string]int, len(ids))
	for b := range ids {
		bytesOf[byteToken(b)] = b
	}
	found := 0
	for i, p := range m.pieces {
		switch p.kind {
		case pieceUnknown:
			mm.unknown = int32(i)
		case pieceByte:
			b, ok := bytesOf[p.text]
			if !ok {
				return fmt.Errorf("piece %d %q has the type of a byte but does not spell one", i, p.text)
			}
			ids[b] = int32(i)
			found++
		}
	}
	switch {
	case mm.unknown == noToken:
		return errors.New("no piece has the type unknown")
	case found == len(ids):
		mm.bytes = &ids
	case found > 0:
		return fmt.Errorf("%d byte pieces; all 256 or none are needed", found)
	}
	return nil
}
