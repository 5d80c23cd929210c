// Package expression evaluates what the Inference Extension's request-attribute-reporter
// has in the Common Expression Language: arithmetic, comparisons and conditions over the
// numbers of a request's usage.
package expression

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Lookup returns the number at a path such as usage.prompt_tokens, and whether there is
// one.
type Lookup func(path string) (float64, bool)

// Expression is one that was read. It may be evaluated from any goroutine.
type Expression struct{ root node }

// value is a number or a truth.
type value struct {
	number float64
	truth  bool
	isBool bool
}

type node func(Lookup) (value, error)

// maxDepth bounds nesting, and maxLength the text.
const (
	maxDepth  = 64
	maxLength = 4096
)

// Parse reads an expression over paths, of which known says whether there may be one.
func Parse(text string, known func(path string) bool) (*Expression, error) {
	if len(text) > maxLength {
		return nil, fmt.Errorf("the expression has %d bytes; the limit is %d", len(text), maxLength)
	}
	p := &parser{text: text, known: known}
	p.next()
	n := p.conditional()
	if p.err == nil && p.token != "" {
		p.fail("%q is not expected here", p.token)
	}
	if p.err != nil {
		return nil, p.err
	}
	return &Expression{n}, nil
}

// Number evaluates to a number.
func (e *Expression) Number(l Lookup) (float64, error) {
	v, err := e.root(l)
	if err == nil && v.isBool {
		err = errors.New("the result is no number")
	}
	return v.number, err
}

// Truth evaluates to true or false.
func (e *Expression) Truth(l Lookup) (bool, error) {
	v, err := e.root(l)
	if err == nil && !v.isBool {
		err = errors.New("the result is neither true nor false")
	}
	return v.truth, err
}

type parser struct {
	text  string
	pos   int
	token string // the one that comes; empty: the end
	at    int
	depth int
	known func(string) bool
	err   error
}

func (p *parser) fail(format string, args ...any) {
	if p.err == nil {
		p.err = fmt.Errorf("at byte %d: %s", p.at+1, fmt.Sprintf(format, args...))
	}
	p.token, p.pos = "", len(p.text)
}

func isName(c byte) bool {
	return c == '_' || c == '.' || c >= '0' && c <= '9' || c|0x20 >= 'a' && c|0x20 <= 'z'
}

// next reads the next token.
func (p *parser) next() {
	for p.pos < len(p.text) && strings.IndexByte(" \t\r\n", p.text[p.pos]) >= 0 {
		p.pos++
	}
	p.at = p.pos
	switch rest := p.text[p.pos:]; {
	case rest == "":
		p.token = ""
		return
	case isName(rest[0]):
		n := 1
		for n < len(rest) && isName(rest[n]) {
			n++
		}
		p.token = rest[:n]
	case len(rest) > 1 && strings.Contains(" == != <= >= && || ", " "+rest[:2]+" "):
		p.token = rest[:2]
	case strings.IndexByte("+-*/%<>!?:()", rest[0]) >= 0:
		p.token = rest[:1]
	default:
		p.fail("%q is not part of an expression", rest[:1])
		return
	}
	p.pos += len(p.token)
}

func (p *parser) take(token string) bool {
	if p.token != token || p.err != nil {
		return false
	}
	p.next()
	return true
}

func (p *parser) expect(token string) {
	if !p.take(token) {
		p.fail("want %q, got %q", token, p.token)
	}
}

// conditional reads a ? b : c, and all that binds closer.
func (p *parser) conditional() node {
	if p.depth++; p.depth > maxDepth {
		p.fail("the expression is nested deeper than %d levels", maxDepth)
	}
	defer func() { p.depth-- }()
	condition := p.binary(0)
	if !p.take("?") {
		return condition
	}
	yes := p.conditional()
	p.expect(":")
	no := p.conditional()
	return func(l Lookup) (value, error) {
		v, err := condition(l)
		switch {
		case err != nil:
			return v, err
		case !v.isBool:
			return v, errors.New("the condition of ? is neither true nor false")
		case v.truth:
			return yes(l)
		}
		return no(l)
	}
}

// levels are the operators that bind alike, the loosest first.
var levels = []string{" || ", " && ", " == != < <= > >= ", " + - ", " * / % "}

func (p *parser) binary(level int) node {
	if level == len(levels) {
		return p.unary()
	}
	left := p.binary(level + 1)
	for p.token != "" && strings.Contains(levels[level], " "+p.token+" ") {
		op := p.token
		p.next()
		left = combine(op, left, p.binary(level+1))
	}
	return left
}

func combine(op string, left, right node) node {
	return func(l Lookup) (value, error) {
		a, err := left(l)
		if err != nil {
			return a, err
		}
		if a.isBool && (op == "&&" && !a.truth || op == "||" && a.truth) {
			return a, nil
		}
		b, err := right(l)
		if err != nil {
			return b, err
		}
		if (op == "&&" || op == "||") != a.isBool || a.isBool != b.isBool {
			return a, fmt.Errorf("%s is for two numbers, or && and || for two truths", op)
		}
		return apply(op, a, b)
	}
}

func apply(op string, a, b value) (value, error) {
	x, y := a.number, b.number
	switch op {
	case "&&", "||":
		return b, nil
	case "+":
		return value{number: x + y}, nil
	case "-":
		return value{number: x - y}, nil
	case "*":
		return value{number: x * y}, nil
	case "/", "%":
		if y == 0 {
			return a, errors.New("division by 0")
		}
		whole := float64(int64(x / y)) // of whole numbers, as there
		if op == "/" {
			return value{number: whole}, nil
		}
		return value{number: x - whole*y}, nil
	case "==":
		return value{truth: x == y, isBool: true}, nil
	case "!=":
		return value{truth: x != y, isBool: true}, nil
	case "<":
		return value{truth: x < y, isBool: true}, nil
	case "<=":
		return value{truth: x <= y, isBool: true}, nil
	case ">":
		return value{truth: x > y, isBool: true}, nil
	}
	return value{truth: x >= y, isBool: true}, nil
}

func (p *parser) unary() node {
	if p.depth++; p.depth > maxDepth {
		p.fail("the expression is nested deeper than %d levels", maxDepth)
	}
	defer func() { p.depth-- }()
	switch {
	case p.take("-"):
		n := p.unary()
		return func(l Lookup) (value, error) {
			v, err := n(l)
			v.number = -v.number
			return v, err
		}
	case p.take("!"):
		n := p.unary()
		return func(l Lookup) (value, error) {
			v, err := n(l)
			v.truth = !v.truth
			return v, err
		}
	case p.take("("):
		n := p.conditional()
		p.expect(")")
		return n
	}
	return p.operand()
}

func (p *parser) operand() node {
	token := p.token
	switch {
	case token == "" || !isName(token[0]):
		p.fail("want a number or a name, got %q", token)
		return nil
	case token == "true" || token == "false":
		p.next()
		return constant(value{truth: token == "true", isBool: true})
	case token == "has":
		p.next()
		p.expect("(")
		path := p.path()
		p.expect(")")
		return func(l Lookup) (value, error) {
			_, ok := l(path)
			return value{truth: ok, isBool: true}, nil
		}
	case token == "int" || token == "uint":
		p.next()
		p.expect("(")
		n := p.conditional()
		p.expect(")")
		return func(l Lookup) (value, error) {
			v, err := n(l)
			v.number = float64(int64(v.number))
			return v, err
		}
	case token[0] >= '0' && token[0] <= '9':
		x, err := strconv.ParseFloat(token, 64)
		if err != nil {
			p.fail("%q is no number", token)
		}
		p.next()
		return constant(value{number: x})
	}
	path := p.path()
	return func(l Lookup) (value, error) {
		x, ok := l(path)
		if !ok {
			return value{}, fmt.Errorf("there is no %s", path)
		}
		return value{number: x}, nil
	}
}

func constant(v value) node { return func(Lookup) (value, error) { return v, nil } }

// path reads a name that is known.
func (p *parser) path() string {
	path := p.token
	if !p.known(path) {
		p.fail("%q is no name that is known here", path)
		return ""
	}
	p.next()
	return path
}
