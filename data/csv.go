package data

import (
	"bufio"
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"strings"
	"unicode/utf8"
)

// Columns returns the names of the data set's columns, as in the published file. A file may have them in any order and
// others beside them.
func Columns() []string {
	return []string{"Question", "Correct Answer", "Correct Argument", "Incorrect Answer", "Incorrect Argument",
		"Choice Answer", "Choice Argument", "Choice Answers Swapped"}
}

// ReadCSV reads a data set in RFC 4180 form, UTF-8 with or without a byte order mark; name is the file's, for errors.
// Text is kept as it is: a backslash followed by n stays these two characters. The error lists every bad row as
// name:line with the reason; the line is the one on which the row begins.
func ReadCSV(r io.Reader, name string) ([]Row, error) {
	var rows []Row
	var errs []error
	for row, err := range ScanCSV(r, name) {
		if err != nil {
			errs = append(errs, err)
		}
		rows = append(rows, row)
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return rows, nil
}

// ScanCSV is ReadCSV row by row. Each bad row is an error, after which the rest is read on where that is possible; a file
// without rows is an error too.
func ScanCSV(r io.Reader, name string) iter.Seq2[Row, error] {
	return func(yield func(Row, error) bool) {
		buffered := bufio.NewReader(r)
		if err := checkForm(buffered); err != nil {
			yield(Row{}, fmt.Errorf("%s:1: %w", name, err))
			return
		}
		skipMark(buffered)
		records := csv.NewReader(buffered)
		records.FieldsPerRecord = -1 // checked row by row, to go on after a bad one
		header, err := records.Read()
		if errors.Is(err, io.EOF) {
			err = fmt.Errorf("empty; want a header with the columns %q", Columns())
		}
		if err != nil {
			yield(Row{}, fmt.Errorf("%s: %w", name, err))
			return
		}
		places, err := findColumns(header)
		if err != nil {
			yield(Row{}, fmt.Errorf("%s:1: %w", name, err))
			return
		}
		scanRows(records, name, table{header, places}, yield)
	}
}

// table is the header of a file and the place of each column in it.
type table struct {
	header []string
	places map[string]int
}

func scanRows(records *csv.Reader, name string, t table, yield func(Row, error) bool) {
	for n := 0; ; n++ {
		record, err := records.Read()
		if errors.Is(err, io.EOF) {
			if n == 0 {
				yield(Row{}, fmt.Errorf("%s: no rows after the header", name))
			}
			return
		}
		line, err := recordLine(records, err)
		if line == 0 {
			yield(Row{}, fmt.Errorf("%s: %w", name, err)) // the file cannot be read on
			return
		}
		var row Row
		if err == nil && len(record) != len(t.header) {
			err = fmt.Errorf("%d fields, the header has %d", len(record), len(t.header))
		}
		if err == nil {
			row, err = newRow(line, func(column string) string { return record[t.places[column]] })
		}
		if err != nil {
			err = fmt.Errorf("%s:%d: %w", name, line, err)
		}
		if !yield(row, err) {
			return
		}
	}
}

// checkForm refuses files that spreadsheets write under the name of CSV, and says how to have them write it.
func checkForm(r *bufio.Reader) error {
	head, _ := r.Peek(1024)
	if bytes.HasPrefix(head, []byte("\xff\xfe")) || bytes.HasPrefix(head, []byte("\xfe\xff")) {
		return errors.New("this is UTF-16: save the file as UTF-8")
	}
	line, _, _ := bytes.Cut(head, []byte("\n"))
	commas := bytes.Count(line, []byte(","))
	for _, other := range []string{";", "\t"} {
		if commas < len(Columns())-1 && bytes.Count(line, []byte(other)) > commas {
			return fmt.Errorf("the header has %q between its columns: save the file with commas there", other)
		}
	}
	return nil
}

// skipMark passes over a byte order mark.
func skipMark(r *bufio.Reader) {
	if mark, _ := r.Peek(3); string(mark) == "\ufeff" {
		r.Discard(3)
	}
}

// recordLine returns where the record just read begins, and what is wrong with its quoting; 0 if reading itself failed.
func recordLine(records *csv.Reader, err error) (line int, reason error) {
	var bad *csv.ParseError
	if errors.As(err, &bad) {
		return bad.StartLine, bad.Err
	}
	if err != nil {
		return 0, err
	}
	line, _ = records.FieldPos(0)
	return line, nil
}

// findColumns maps each column's name to its place in the header.
func findColumns(header []string) (map[string]int, error) {
	places := map[string]int{}
	var missing []string
	for _, column := range Columns() {
		switch i := slices.Index(header, column); {
		case i < 0:
			missing = append(missing, column)
		case slices.Contains(header[i+1:], column):
			return nil, fmt.Errorf("the column %q stands twice in the header", column)
		default:
			places[column] = i
		}
	}
	if len(missing) > 0 {
		return nil, fmt.Errorf("the header lacks the columns %q; it has %q", missing, header)
	}
	return places, nil
}

// newRow checks one record and returns all that is wrong with it.
func newRow(line int, get func(column string) string) (Row, error) {
	row := Row{Line: line, Question: get("Question"),
		CorrectAnswer: get("Correct Answer"), CorrectArgument: get("Correct Argument"),
		IncorrectAnswer: get("Incorrect Answer"), IncorrectArgument: get("Incorrect Argument"),
		Choice: get("Choice Answer"), ChoiceArgument: get("Choice Argument"),
		Swapped: strings.EqualFold(get("Choice Answers Swapped"), "True")} // spreadsheets write TRUE
	var reasons []string
	for _, column := range Columns() {
		if !utf8.ValidString(get(column)) {
			reasons = append(reasons, column+" is not UTF-8")
		}
	}
	for _, column := range []string{"Question", "Correct Argument", "Incorrect Argument", "Choice Argument"} {
		if strings.TrimSpace(get(column)) == "" {
			reasons = append(reasons, column+" is empty")
		}
	}
	if row.Choice != "candidate_1" && row.Choice != "candidate_2" {
		reasons = append(reasons, fmt.Sprintf("Choice Answer is %q, want candidate_1 or candidate_2", row.Choice))
	}
	if s := get("Choice Answers Swapped"); !row.Swapped && !strings.EqualFold(s, "False") {
		reasons = append(reasons, fmt.Sprintf("Choice Answers Swapped is %q, want True or False", s))
	}
	if len(reasons) > 0 {
		return Row{}, errors.New(strings.Join(reasons, "; "))
	}
	return row, nil
}
