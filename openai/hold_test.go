package openai_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/inferpick/inferpick/openai"
)

// step is a call of Feed, or of Close if in is empty, and what is said after it.
type step struct {
	in, out string
	begun   bool
}

func checkSteps(t *testing.T, o openai.StreamOptions, steps []step) *openai.Stream {
	t.Helper()
	s := openai.NewStream(o)
	for _, tt := range steps {
		var got string
		if tt.in == "" {
			got = string(s.Close())
		} else {
			got = string(s.Feed([]byte(tt.in)))
		}
		if got != tt.out || s.Begun() != tt.begun {
			t.Errorf("%+v: Feed(%q) = %q, begun %v, want %q, %v", o, tt.in, got, s.Begun(), tt.out, tt.begun)
		}
	}
	return s
}

// Until the first event with data is whole, nothing of it goes out; what keeps the
// connection alive does.
func TestHoldFirst(t *testing.T) {
	first := openai.StreamOptions{ContentType: sse, HoldFirst: true}
	restored := openai.StreamOptions{ContentType: sse, TargetModel: "t", Model: "p"}
	for _, o := range []openai.StreamOptions{first, restored, {ContentType: sse, HoldFirst: true, TargetModel: "t", Model: "p"}} {
		checkSteps(t, o, []step{
			{": ping\n", ": ping\n", false},
			{": pi", ": pi", false},
			{"ng\r", "ng\r", false},
			{"\n\r\n\n", "\n\r\n\n", false},
			{": x\n\nevent: x\n", ": x\n\n", false},
			{": inside\n", "", false},
			{"data: {", "", false},
			{"}\n", "", false},
			{"\n: ping\n", "event: x\n: inside\ndata: {}\n\n: ping\n", true},
			{"", "", true},
		})
		checkSteps(t, o, []step{
			{"event: ping\n\nid: 1\n\n", "event: ping\n\nid: 1\n\n", false},
			{"data:\n\ndata: \n\n", "data:\n\ndata: \n\n", false},
			{"data: [DONE]\n", "", false},
			{"\n", "data: [DONE]\n\n", true},
		})
		// The end of the body comes before the end of the event.
		checkSteps(t, o, []step{{"data: {\"x\":", "", false}, {"", "data: {\"x\":", false}})
		checkSteps(t, o, []step{{"dat", "", false}, {"", "dat", false}})
		checkSteps(t, o, []step{{"data: {}", "", false}, {"", "data: {}", true}})
	}
	// After the first event only what is to be restored is held back.
	checkSteps(t, first, []step{{"data: {}\n\ndata", "data: {}\n\ndata", true}, {": x", ": x", true}, {"", "", true}})
	checkSteps(t, first, []step{{"data: {}\n", "", false}, {"\ndata", "data: {}\n\ndata", true}})
	checkSteps(t, restored, []step{
		{"data: {}\n\ndata", "data: {}\n\n", true}, {": {\"model\":\"t\"}\n\n: ping\n", "data: {\"model\":\"p\"}\n\n: ping\n", true},
	})
	// Lines of JSON.
	checkSteps(t, openai.StreamOptions{ContentType: "application/jsonl", TargetModel: "t", Model: "p"}, []step{
		{"\n", "\n", false}, {"{\"model\":", "", false}, {"\"t\"}\n{", "{\"model\":\"p\"}\n", true}, {"", "{", true},
	})
	// Without either nothing is held back.
	checkSteps(t, openai.StreamOptions{ContentType: sse}, []step{{": x\nda", ": x\nda", false}, {"ta: x\n", "ta: x\n", false}, {"\n", "\n", true}})
}

// What is held is bounded, and so begins a stream whose first event is too long.
func TestHoldFirstIsBounded(t *testing.T) {
	long := "data: " + strings.Repeat("x", 100)
	o := openai.StreamOptions{ContentType: sse, HoldFirst: true, MaxEventBytes: 64}
	checkSteps(t, o, []step{{"data: ", "", false}, {long, "data: " + long, true}, {"y", "y", true}, {"\n\n", "\n\n", true}})
	checkSteps(t, o, []step{{long + "\n\n", long + "\n\n", true}})
	comment := ":" + strings.Repeat("x", 100)
	checkSteps(t, o, []step{{comment, comment, false}, {comment + "\n", comment + "\n", false}, {"data: x\n\n", "data: x\n\n", true}})
}

// The caller learns of an error before a byte of it went out.
func TestTrapErrorEventIsHeld(t *testing.T) {
	s := openai.NewStream(openai.StreamOptions{API: openai.ChatCompletions, ContentType: sse, HoldFirst: true})
	refusal := `data: {"error":{"message":"busy","type":"Service Unavailable","code":503}}`
	for i := range len(refusal) {
		if got := s.Feed([]byte(refusal[i : i+1])); len(got) > 0 || s.Begun() {
			t.Fatalf("Feed = %q, begun %v", got, s.Begun())
		}
	}
	s.Feed([]byte("\n\n"))
	var e *openai.ServerError
	if !s.Begun() || !errors.As(s.Err(), &e) || e.Status != 503 || s.FirstToken() {
		t.Errorf("begun %v, %v", s.Begun(), s.Err())
	}
}

func TestWhiteSpaceBeforeJSONPasses(t *testing.T) {
	o := openai.StreamOptions{ContentType: "application/json", TargetModel: "t", Model: "p"}
	checkSteps(t, o, []step{{" \n", " \n", false}, {"\r\n{\"mod", "\r\n", true}, {"el\":\"t\"}", "", true}, {"", "{\"model\":\"p\"}", true}})
	checkSteps(t, o, []step{{"\t", "\t", false}, {" {\"model\":\"t\"}\n", " {\"model\":\"p\"}\n", true}, {" ", " ", true}, {"", "", true}})
	o.MaxBodyBytes = 16
	checkSteps(t, o, []step{{strings.Repeat(" ", 100), strings.Repeat(" ", 100), false}, {" {\"model\":\"t\"}    ", " {\"model\":\"p\"}    ", true}})
	// Broken off in the middle, nothing of it has gone out.
	checkSteps(t, o, []step{{"{\"model\"", "", true}})
	// There is nothing to restore in what is no object.
	checkSteps(t, o, []step{{" [", " [", true}, {"1]", "1]", true}, {"", "", true}})
	checkSteps(t, o, []step{{"\xef\xbb", "", true}, {"\xbf{\"model\":\"t\"}", "", true}, {"", "\xef\xbb\xbf{\"model\":\"p\"}", true}})
	// Of other bodies it is the first byte that begins them.
	checkSteps(t, openai.StreamOptions{ContentType: "text/plain", HoldFirst: true}, []step{{" ", " ", false}, {"x", "x", true}, {"", "", true}})
	checkSteps(t, openai.StreamOptions{HoldFirst: true}, []step{{" ", " ", false}, {"{", "{", true}, {"", "", true}})
}
