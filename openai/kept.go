package openai

import (
	"strings"

	"github.com/inferpick/inferpick/internal/jsonscan"
)

// Job is what an answer says of a job, which a server does after it has answered: a film, a batch, a response in the
// background.
type Job struct {
	State JobState
	// Expires is when the server forgets it and what came of it; Created and Ended say when it was put in and when it was
	// done. In Unix seconds by the server's clock; 0: it does not say.
	Expires, Created, Ended int64
}

// JobState is how far a job is.
type JobState uint8

// States of jobs.
const (
	JobUnknown JobState = iota // it is no job, or one in a state that is not known
	JobOpen                    // it is queued or under way
	JobEnded                   // it is completed, failed, cancelled or expired
)

// maxIDs bounds the ids that are read of an answer.
const maxIDs = 16

// Job returns what the answer says of a job: of a body in JSON, not of an event stream. With StreamOptions.Kept any object
// may be one, without it only those of the Responses API.
func (s *Stream) Job() Job { return s.job }

// OtherIDs returns ids of what is to be had from the same server beside ResponseID, as far as StreamOptions.Kept had them
// read: the files of a batch; pictures that the answer has addresses of, as in /v1/images/ID/content. At most 16.
func (s *Stream) OtherIDs() []string { return s.others }

// keptFields are those of a thing that a server keeps.
type keptFields struct {
	expires, created, ended value
	deleted                 bool
	files                   [2]value // output and errors of a batch
	addresses               [maxIDs]value
	n                       int
}

// read reads the value of a key at the top of an answer, and reports whether it is one of those.
func (k *keptFields) read(r *reading, key []byte) bool {
	switch string(key) {
	case "expires_at":
		k.expires = readValue(&r.scan)
	case "created_at":
		k.created = readValue(&r.scan)
	case "completed_at", "failed_at", "cancelled_at":
		if v := readValue(&r.scan); !v.absent() {
			k.ended = v
		}
	case "deleted":
		v := readValue(&r.scan)
		k.deleted = v.kind == jsonscan.Bool && r.data[v.span.Start] == 't'
	case "output_file_id":
		k.files[0] = readValue(&r.scan)
	case "error_file_id":
		k.files[1] = readValue(&r.scan)
	case "data":
		if kind, _ := r.scan.Peek(); kind != jsonscan.Array {
			return false
		}
		r.answer = k.readData(r) || r.answer
	default:
		return false
	}
	return true
}

// readData reads a list of pictures, and reports whether there is anything in it.
func (k *keptFields) readData(r *reading) (some bool) {
	for r.scan.Enter(); r.scan.Elem(); {
		if kind, _ := r.scan.Peek(); kind != jsonscan.Object {
			some = r.hasContent() || some
			continue
		}
		for r.scan.Enter(); r.scan.Key(); {
			key := keyOf(&r.scan, r.data)
			if string(key) == "url" && k.n < maxIDs {
				if v := readValue(&r.scan); v.kind == jsonscan.String && v.span.End > v.span.Start {
					k.addresses[k.n], some = v, true
					k.n++
				}
				continue
			}
			label := isLabel(key)
			some = r.hasContent() && !label || some
		}
	}
	return some
}

// commitKept moves what was found of a thing that the server keeps to the stream.
func (r *reading) commitKept() {
	s, k := r.s, r.kept
	if k == nil {
		if !r.event && string(r.object) == "response" {
			s.job.State = r.jobState()
		}
		return
	}
	if object := string(r.object); r.event || object == "list" || k.deleted || strings.HasSuffix(object, ".deleted") {
		return
	}
	s.job = Job{State: r.jobState(), Expires: r.seconds(k.expires), Created: r.seconds(k.created), Ended: r.seconds(k.ended)}
	if s.id == "" {
		s.id = r.idOf(r.id)
	}
	for _, v := range k.files {
		s.addOther(r.idOf(v))
	}
	for _, v := range k.addresses[:k.n] {
		s.addOther(keptAt(r.short(v, maxAddress)))
	}
}

// idOf returns a string that may be an id, or "".
func (r *reading) idOf(v value) string {
	if name := r.short(v, maxID+1); v.kind == jsonscan.String && len(name) <= maxID {
		return name
	}
	return ""
}

func (s *Stream) addOther(id string) {
	if id != "" && len(s.others) < maxIDs {
		s.others = append(s.others, id)
	}
}

// seconds returns a time in whole seconds, 0 if it is none.
func (r *reading) seconds(v value) int64 {
	if v.kind != jsonscan.Number {
		return 0
	}
	whole, _, _ := strings.Cut(string(r.data[v.span.Start:min(v.span.End, v.span.Start+24)]), ".")
	n, ok := parseInt([]byte(whole))
	if whole == "" || whole == "-" || !ok || n < 0 || int64(n) > 1<<40 {
		return 0
	}
	return int64(n)
}

// jobState returns how far a job is by its status.
func (r *reading) jobState() JobState {
	switch r.short(r.outer.status, 16) {
	case "queued", "pending", "validating", "in_progress", "processing", "running", "generating", "finalizing", "cancelling":
		return JobOpen
	case "completed", "succeeded", "success", "failed", "error", "incomplete", "cancelled", "canceled", "expired", "deleted":
		return JobEnded
	}
	return JobUnknown
}

// maxAddress bounds an address that an id is read from.
const maxAddress = 1024

// keptAt returns the id of what is at an address: /v1/images/ID/content. "": none is to be seen.
func keptAt(address string) string {
	if len(address) >= maxAddress {
		return ""
	}
	address, _, _ = strings.Cut(address, "?")
	for _, collection := range [...]string{"/images/", "/videos/", "/files/"} {
		if _, rest, ok := strings.Cut(address, collection); ok {
			if id, _, _ := strings.Cut(rest, "/"); len(id) <= maxID && !strings.Contains(id, "%") {
				return id
			}
		}
	}
	return ""
}

// FileIn returns the id of the file that a request in JSON is about, which is at the server that it was sent to:
// input_file_id of a batch, or file_id in image_reference or input_reference of a film. "": it names none, or one longer than
// 256 bytes.
func FileIn(body []byte) (id string) {
	scan := jsonscan.New(body, jsonscan.DefaultMaxDepth)
	read := func() {
		r := reading{data: body}
		if v := readValue(&scan); !v.absent() {
			id = r.idOf(v)
		}
	}
	if kind, _ := scan.Peek(); kind != jsonscan.Object {
		return ""
	}
	for scan.Enter(); scan.Key(); {
		switch string(keyOf(&scan, body)) {
		case "input_file_id":
			read()
		case "image_reference", "input_reference":
			for ok := scan.EnterObject(); ok && scan.Key(); {
				if string(keyOf(&scan, body)) == "file_id" {
					read()
				} else {
					scan.Skip()
				}
			}
		default:
			scan.Skip()
		}
	}
	if !scan.OK() {
		return ""
	}
	return id
}
