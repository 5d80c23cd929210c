package simulation

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// eachRow calls each for the rows that are left in a file, the first of which is row n, and
// says in which line one is wrong.
func eachRow(rows *csv.Reader, name string, n, maxLines int, each func(n int, row []string) error) error {
	for ; ; n++ {
		row, err := rows.Read()
		switch {
		case err == io.EOF:
			return nil
		case err != nil:
			return csvError(name, err)
		case n > maxLines:
			return tooManyLines(name, maxLines)
		}
		if err := each(n, row); err != nil {
			line, _ := rows.FieldPos(0)
			return lineError(name, line, "%w", err)
		}
	}
}

// csvError puts the place in a file as all trace errors do.
func csvError(name string, err error) error {
	var p *csv.ParseError
	if errors.As(err, &p) {
		return lineError(name, p.Line, "%w", p.Err)
	}
	return fmt.Errorf("%s: %w", name, err)
}

// parseTokens reads a number of tokens.
func parseTokens(field, s string, least int) (int, error) {
	v, err := strconv.Atoi(strings.TrimSpace(s))
	if err != nil {
		return 0, fmt.Errorf("%s is %.40q, want a whole number", field, s)
	}
	return v, tokensIn(field, v, least)
}
