package director

import (
	"strings"
	"sync"
	"time"

	"github.com/inferpick/inferpick/internal/list"
	"github.com/inferpick/inferpick/openai"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/admission"
	"github.com/inferpick/inferpick/types"
)

// This file is about what stays with the server that has it: jobs, of which clients are told an id and that they ask for
// later, and files. Where they are is remembered by plugins.PreviousAnswer; here it is told what a path is about, and that
// a server goes on working at a job after it has answered.

// Defaults of JobOptions.
const (
	DefaultMaxJobs = 4096
	DefaultJobTime = 2 * time.Hour
)

// JobOptions bound for how long a job is taken to be under way. The zero value has the defaults.
type JobOptions struct {
	// Max bounds how many jobs are followed: beyond it the one that was put in first is taken to be done. Default
	// DefaultMaxJobs.
	Max int
	// Time is how long one may be under way, whatever its server says. One that nobody asks for is taken to be done
	// after Profile.BookingTTL of its scheduler. Default DefaultJobTime.
	Time time.Duration
}

// kept is what a path is about among the things that servers keep. The zero value is none of them.
type kept struct {
	collection string // responses, videos, …
	id         string // empty: all of them, or a new one
	action     string // what follows the id: content, cancel, remix
}

// keptIn returns what a path is about, as it came.
func keptIn(path string) (k kept) {
	path = withoutQuery(path)
	for segment := range strings.SplitSeq(path, "/") {
		switch {
		case segment == "":
		case k.collection == "":
			k.collection = collectionOf(segment)
		case k.id == "":
			if k.id = unescape(segment); len(k.id) > maxID {
				return kept{}
			}
		case k.action == "":
			k.action = segment
		}
	}
	return k
}

// collectionOf returns the name of what servers keep by a segment of a path, empty if it is none. A client that writes it in
// another way may find that its server is not found.
func collectionOf(segment string) string {
	switch segment {
	case "responses", "conversations", "videos", "batches", "files", "uploads", "meshes", "images":
		return segment
	}
	return ""
}

// named returns the id that the path of a request has, if it is one: what is posted to a collection may have a verb there.
func (k kept) named(method string) string {
	if method == "POST" && k.action == "" {
		switch k.id {
		case "generations", "edits", "variations", "sync", "extensions", "compact", "input_tokens":
			return ""
		}
	}
	return k.id
}

// tells reports whether an answer may say something of what is kept, and is not that itself. What a new response is the
// answer to it says by its API.
func (k kept) tells() bool {
	switch k.action {
	case "", "cancel", "remix", "complete":
		return k.collection != "" && (k.collection != "responses" || k.id != "")
	}
	return false
}

// refers reports whether bodies may name a file that is at a server.
func (k kept) refers() bool {
	return k.id == "" && (k.collection == "batches" || k.collection == "videos")
}

// makes reports whether what is posted there makes something that its server keeps, before anybody is told of it.
func (k kept) makes() bool {
	switch k.collection {
	case "videos", "meshes", "batches", "files", "uploads", "conversations":
		return k.tells() && k.id != "sync"
	}
	return false
}

// Repeatable reports whether a request may be sent to another server although the one before may have taken it, and has not
// refused it: not one by which a server makes a job, or keeps something else, for a client that is never told of it. It is
// for data planes that call Next.
func (r *Route) Repeatable() bool { return r.method != "POST" || !r.kept.makes() }

// jobKey names a job. Tenants' are kept apart.
type jobKey struct{ tenant, id string }

// job is one that its server still works at, as far as is known.
type job struct {
	key      jobKey
	decision *scheduling.Decision
	ticket   *admission.Ticket // nil: there is none
	out      types.Outcome     // with which its server took it
	took     time.Time         // when
	until    time.Time         // so long it is believed
	seen     time.Time         // when it was last said to be under way
	listed   list.Node[job]
}

// jobs are those whose servers have answered, and still work at them. What it decides it decides by the times that it is
// given.
type jobs struct {
	max  int
	time time.Duration

	mu sync.Mutex
	// guarded by mu, under which nothing else is called
	byKey map[jobKey]*job
	all   list.List[job] // in the order in which they came
}

// add follows a job. Those that are returned are to be ended: one of the same name, or one too many.
func (all *jobs) add(j *job, now time.Time) (over []*job) {
	j.took, j.seen = now, now
	if until := now.Add(all.time); j.until.IsZero() || j.until.After(until) {
		j.until = until
	}
	all.mu.Lock()
	defer all.mu.Unlock()
	if old := all.byKey[j.key]; old != nil {
		over = append(over, all.removeLocked(old))
	}
	for n := all.all.Head; n != nil && (len(all.byKey) >= all.max || n.Of.overdue(now)); n = all.all.Head {
		over = append(over, all.removeLocked(n.Of))
	}
	if all.byKey == nil {
		all.byKey = map[jobKey]*job{}
	}
	all.byKey[j.key] = j
	all.all.Push(j, &j.listed)
	return over
}

// overdue reports whether nobody follows a job any more.
func (j *job) overdue(now time.Time) bool { return now.After(j.until) || j.decision.Settled() }

// overdue returns those that have been under way for too long.
func (all *jobs) overdue(now time.Time) (over []*job) {
	all.mu.Lock()
	defer all.mu.Unlock()
	for n := all.all.Head; n != nil && n.Of.overdue(now); n = all.all.Head {
		over = append(over, all.removeLocked(n.Of))
	}
	return over
}

func (all *jobs) removeLocked(j *job) *job {
	delete(all.byKey, j.key)
	all.all.Remove(&j.listed)
	return j
}

// heard is told what a server said of a job. It returns the job, and whether that has ended; nil if none is followed there.
func (all *jobs) heard(key jobKey, at *types.Load, state openai.JobState, now time.Time) (j *job, ended bool) {
	all.mu.Lock()
	defer all.mu.Unlock()
	if j = all.byKey[key]; j == nil || j.decision.Current().Load != at {
		return nil, false
	}
	if state == openai.JobEnded || j.overdue(now) {
		return all.removeLocked(j), true
	}
	if state == openai.JobOpen {
		j.seen = now
	}
	return j, false
}

// forget returns the jobs of a server that has gone.
func (all *jobs) forget(at *types.Load) (over []*job) {
	all.mu.Lock()
	defer all.mu.Unlock()
	for n := all.all.Head; n != nil; {
		j := n.Of
		n = n.Next
		if j.decision.Current().Load == at {
			over = append(over, all.removeLocked(j))
		}
	}
	return over
}

// Jobs returns how many jobs servers work at that were put in here, as far as is known.
func (d *Director) Jobs() int {
	d.jobs.mu.Lock()
	defer d.jobs.mu.Unlock()
	return len(d.jobs.byKey)
}

// end ends a job of which it is not known when it was done: nobody is to learn from the time.
func (j *job) end() {
	out := j.out
	out.Cancelled = true
	j.decision.Done(out)
}

// done ends a job that is done by what its server said at now.
func (j *job) done(said openai.Job, now time.Time) {
	end, doubt := j.seen.Add(now.Sub(j.seen)/2), now.Sub(j.seen)/2
	if took := time.Duration(said.Ended-said.Created) * time.Second; said.Created > 0 && took >= 0 && doubt > time.Second && took <= now.Sub(j.took) {
		end, doubt = j.took.Add(took), time.Second
	}
	if total := end.Sub(j.took); doubt > total/2 {
		j.end()
		return
	}
	_ = j.decision.DoneAt(j.out, end) // or now
}

// longestJob bounds the answer of a server that has taken a job, in bytes: it is kept as long as the job is followed.
const longestJob = 64 << 10

// goesOn reports whether a server goes on with a request after it has answered it so, and has the request followed then.
// Caller must not hold r.mu.
func (r *Route) goesOn(out *types.Outcome, said openai.Job) bool {
	if !r.generates || said.State != openai.JobOpen || out.ResponseID == "" || !out.Served() || out.ResponseBytes > longestJob {
		return false
	}
	if r.decision.Answered(*out) {
		r.Body, r.pieces, r.early, r.rest = nil, nil, nil, nil
		r.letGo.Store(true)
	}
	if r.ticket != nil {
		r.ticket.OnRevoke(nil) // there is no connection to close any more, and its server goes on whatever is said here
	}
	j := &job{key: jobKey{r.Request.FairnessID, out.ResponseID}, decision: r.decision, ticket: r.ticket, out: *out, until: out.KeptUntil}
	for _, over := range r.director.jobs.add(j, time.Now()) {
		over.end()
	}
	return true
}

// tellsOf has the job know what an answer says that a request is about: err of the path, for one that is not there any more.
func (r *Route) tellsOf(out *types.Outcome, said openai.Job) {
	id := r.kept.named(r.method)
	if id == "" || out.Err != nil || out.Cancelled || out.Retried || r.method == "OPTIONS" { // a browser asks whether it may ask
		return
	}
	state := openai.JobUnknown
	switch ok := out.Status >= 200 && out.Status < 300; {
	case ok && r.method == "DELETE" && r.kept.action == "":
		state = openai.JobEnded
	case ok && r.kept.action == "content": // of what is not done there is none
		state = openai.JobEnded
	case ok && r.kept.tells() && out.ResponseID == id:
		state = said.State
	case out.Status == 404 && r.kept.action == "":
		state = openai.JobEnded
	case ok, out.Status == 404:
	default:
		return
	}
	now := time.Now()
	j, ended := r.director.jobs.heard(jobKey{r.Request.FairnessID, id}, r.decision.Current().Load, state, now)
	switch {
	case j == nil:
	case !ended:
		j.decision.Alive()
		if j.ticket != nil {
			j.ticket.Alive()
		}
	case said.State == openai.JobEnded && state == openai.JobEnded:
		j.done(said, now)
	default:
		j.end()
	}
}

// keptFor returns until when a server keeps what it has made, as it says. Zero: it does not.
func keptFor(said openai.Job) time.Time {
	if said.Expires <= 0 {
		return time.Time{}
	}
	return time.Unix(said.Expires, 0)
}
