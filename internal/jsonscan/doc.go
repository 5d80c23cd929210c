// Package jsonscan reads JSON in one pass without building a tree.
//
// A [Scanner] walks a document as the caller directs it: it enters the objects
// and arrays that are of interest and skips the rest, and validates all of it on
// the way. What it hands out are positions in the caller's bytes. It accepts
// what RFC 8259 and [encoding/json.Valid] accept, no more and no less, but for a
// limit on nesting; like encoding/json it leaves UTF-8 inside of strings
// unchecked until a string is decoded.
//
//	s := jsonscan.New(body, 0)
//	for s.Enter(); s.Key(); {
//		if string(body[s.Token.Start:s.Token.End]) == "model" {
//			…
//		}
//		s.Skip()
//	}
//	if err := s.End(); err != nil { … }
//
// After an error every method does nothing and reports the end of whatever is
// walked, so that a walk needs one check of the error, at its end.
//
// [Unquote] and [AppendQuote] convert between Go and JSON strings.
package jsonscan
