package torchbin

import (
	"archive/zip"
	"bytes"
	"errors"
	"fmt"
	"io"
	"path"

	"gotransplant/model/safetensors"
)

// readZip reads the format of PyTorch 1.6 and later: <folder>/data.pkl with the state dict, and the storage of key k in
// <folder>/data/k, stored without compression.
func readZip(content []byte) ([]entry, error) {
	archive, err := zip.NewReader(bytes.NewReader(content), int64(len(content)))
	if err != nil {
		return nil, fmt.Errorf("not a PyTorch file, or cut short: %w", err)
	}
	records, folder, err := index(archive)
	if err != nil {
		return nil, err
	}
	order, err := small(records[path.Join(folder, "byteorder")])
	if err != nil {
		return nil, err
	}
	if order != nil && string(order) != "little" {
		return nil, fmt.Errorf("byte order %q, want little; save the file on another machine", order)
	}
	text, err := small(records[path.Join(folder, "data.pkl")])
	if err != nil {
		return nil, err
	}
	known := storages{}
	state, _, err := unpickle(text, func(id any) (any, error) {
		parsed, err := parseID(id)
		if err != nil {
			return nil, err
		}
		s, err := known.get(parsed)
		if err == nil && s.data == nil {
			s.data, err = stored(content, records[path.Join(folder, "data", parsed.key)], parsed)
		}
		return s, err
	})
	if err != nil {
		return nil, err
	}
	return entries(state)
}

// index returns the records of an archive by name and the folder that holds data.pkl.
func index(archive *zip.Reader) (records map[string]*zip.File, folder string, err error) {
	records = map[string]*zip.File{}
	for _, f := range archive.File {
		if records[f.Name] != nil {
			return nil, "", fmt.Errorf("the archive holds %q twice", f.Name)
		}
		records[f.Name] = f
		switch path.Base(f.Name) {
		case "constants.pkl":
			return nil, "", errors.New("a TorchScript program, not a state dict; save model.state_dict()")
		case "data.pkl":
			folder = path.Dir(f.Name)
		}
	}
	if folder == "" {
		return nil, "", errors.New("a zip archive without data.pkl: not a PyTorch file")
	}
	return records, folder, nil
}

// small reads a record of at most maxPickle bytes, nil when there is none.
func small(record *zip.File) ([]byte, error) {
	if record == nil {
		return nil, nil
	}
	if record.UncompressedSize64 > maxPickle {
		return nil, fmt.Errorf("%s: %d bytes are more than the %d that names and shapes may take",
			record.Name, record.UncompressedSize64, maxPickle)
	}
	r, err := record.Open()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", record.Name, err)
	}
	defer r.Close()
	text, err := io.ReadAll(io.LimitReader(r, maxPickle))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", record.Name, err)
	}
	return text, nil
}

// stored returns the part of content that is the record of a storage. Its checksum is not computed: that would read
// all weights at once.
func stored(content []byte, record *zip.File, id storageID) ([]byte, error) {
	if record == nil {
		return nil, fmt.Errorf("the archive holds no record for storage %q", id.key)
	}
	size, err := safetensors.ByteSize(id.dtype, []int{id.size})
	if err != nil {
		return nil, err
	}
	if record.Method != zip.Store || record.CompressedSize64 != record.UncompressedSize64 {
		return nil, fmt.Errorf("%s is compressed, as PyTorch never does; save the file again with torch.save", record.Name)
	}
	if record.UncompressedSize64 != uint64(size) {
		return nil, fmt.Errorf("%s: %d elements of %s take %d bytes, got %d",
			record.Name, id.size, id.dtype, size, record.UncompressedSize64)
	}
	start, err := record.DataOffset()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", record.Name, err)
	}
	if start < 0 || start > int64(len(content)) || int64(size) > int64(len(content))-start {
		return nil, fmt.Errorf("%s: lies outside the file, which is cut short or damaged", record.Name)
	}
	return content[start : int(start)+size : int(start)+size], nil
}
