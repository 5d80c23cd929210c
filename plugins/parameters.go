package plugins

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// Parameters decodes the parameters of a plugin into v strictly: unknown fields
// are errors. With no parameters v stays as it is, so set the defaults before.
func Parameters(p json.RawMessage, v any) error {
	if len(p) == 0 {
		return nil
	}
	return decodeStrict(p, v)
}

func decodeStrict(data []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return at(data, err)
	}
	if _, err := d.Token(); err != io.EOF {
		return fmt.Errorf("there is more after the first JSON value")
	}
	return nil
}

// at adds line and column to those errors of encoding/json that know an offset.
func at(data []byte, err error) error {
	var offset int64
	var syntax *json.SyntaxError
	var typed *json.UnmarshalTypeError
	switch {
	case errors.As(err, &syntax):
		offset = syntax.Offset
	case errors.As(err, &typed):
		offset = typed.Offset
	case errors.Is(err, io.EOF):
		return errors.New("is empty, want a JSON object")
	case errors.Is(err, io.ErrUnexpectedEOF):
		return errors.New("ends in the middle of a JSON value")
	default:
		return err
	}
	before := data[:min(int(offset), len(data))]
	line := bytes.Count(before, []byte("\n")) + 1
	column := len(before) - bytes.LastIndexByte(before, '\n') - 1
	return fmt.Errorf("line %d, column %d: %w", line, column, err)
}
