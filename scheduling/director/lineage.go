package director

import (
	"strconv"
	"sync"
	"time"

	"github.com/inferpick/inferpick/internal/lineage"
	"github.com/inferpick/inferpick/openai"
)

// mostLineage bounds Options.Lineage.
const mostLineage = 10_000_000

// lineageKept is for how long prompts are remembered.
const lineageKept = 30 * time.Minute

// lineages finds conversations that nobody names.
type lineages struct {
	began   time.Time
	prompts sync.Pool // of *lineage.Prompt

	mu    sync.Mutex
	table *lineage.Table
}

func newLineages(prompts int) *lineages {
	return &lineages{
		began: time.Now(), table: lineage.New(prompts, int64(lineageKept)),
		prompts: sync.Pool{New: func() any { return new(lineage.Prompt) }},
	}
}

// find fills in the session of a chat by its prompt, and its program if that is not known.
func (l *lineages) find(r *Route) {
	req := &r.Request
	switch r.parsed.API {
	case openai.ChatCompletions, openai.Messages, openai.Responses:
	default:
		return
	}
	p := l.prompts.Get().(*lineage.Prompt)
	defer l.prompts.Put(p)
	if !l.table.Read(p, [3]string{req.FairnessID, req.Model, req.CacheSalt}, req.PromptData(), req.Prompt.Spans) {
		return
	}
	l.mu.Lock()
	session, program := l.table.Of(p, int64(time.Since(l.began)))
	l.mu.Unlock()
	req.SessionID = madeUp(session)
	if req.ProgramID == "" && program != session {
		req.ProgramID = madeUp(program)
	}
}

func madeUp(id lineage.ID) string { return "~" + strconv.FormatUint(uint64(id), 36) }
