package types

// Finish is how a model ended an answer, in the words of no API. The zero value says that it is
// not known.
type Finish uint8

// The ways in which an answer ends.
const (
	FinishUnknown Finish = iota // not read, or there was none to read: a failure, an embedding, an answer that was cut off
	FinishStop                  // the model came to its end, or to what the client has it stop at
	FinishLength                // the tokens that it may have, or the context that it has, were used up
	FinishFilter                // what it said was withheld, or it refused to say it
	FinishTools                 // it asks the client to run tools
	FinishOther                 // for another reason: it was aborted, it pauses, or what no API is known to say
)

// String returns the way in one word, in lower case.
func (f Finish) String() string {
	if int(f) < len(finishes) {
		return finishes[f]
	}
	return "invalid"
}

var finishes = [...]string{
	FinishUnknown: "unknown", FinishStop: "stop", FinishLength: "length",
	FinishFilter: "filter", FinishTools: "tools", FinishOther: "other",
}
