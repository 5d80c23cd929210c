package director

import (
	"cmp"
	"net/textproto"

	"github.com/inferpick/inferpick/types"
)

// HeaderProgram is the default of Options.ProgramHeader.
const HeaderProgram = "X-Program-Id"

// agent is how some client, or the gateway before, says to which conversation a request belongs, and to which agent's
// task: names of headers in canonical form, as they are met in the field.
type agent struct {
	session string // of the conversation, or of the whole run if there is a part
	part    string // of the conversation within the run: a sub-agent, a thread
	parent  string // of the conversation that began this one
}

// agents are read in this order; of the first of which there is a session, all counts, and nothing of the others.
var agents = []agent{
	{session: "X-Dynamo-Session-Id", parent: "X-Dynamo-Parent-Session-Id"},
	{session: "X-Claude-Code-Session-Id", part: "X-Claude-Code-Agent-Id"},
	{session: "Session-Id", part: "Thread-Id"},                      // Codex
	{session: "Session_id", part: "Thread_id"},                      // Codex, formerly
	{session: "X-Session-Affinity", parent: "X-Parent-Session-Id"},  // OpenCode, Pi
	{session: "X-Litellm-Session-Id", parent: "X-Litellm-Trace-Id"}, // LiteLLM
	{session: "X-Conversation-Id"}, {session: "Conversation_id"},    // several chat clients
	{session: "X-Smg-Routing-Key"}, // SGLang's gateway
}

// headerNames are those of the gateway's own.
type headerNames struct{ session, program string }

func (o *Options) headerNames() headerNames {
	return headerNames{
		session: textproto.CanonicalMIMEHeaderKey(cmp.Or(o.SessionHeader, HeaderSession)),
		program: textproto.CanonicalMIMEHeaderKey(cmp.Or(o.ProgramHeader, HeaderProgram)),
	}
}

// identify fills in to which conversation and to which agent's task a request belongs: what the gateway says goes before
// the headers, and these before the body.
func (d *Director) identify(req *types.Request, in *Incoming) {
	if d.o.IgnoreClientIDs {
		req.SessionID, req.ProgramID = "", ""
	} else if len(in.Header) > 0 {
		session, program := d.names.read(in.Header)
		req.SessionID, req.ProgramID = cmp.Or(session, req.SessionID), cmp.Or(program, req.ProgramID)
	}
	if in.SessionID != "" {
		req.SessionID = boundID(in.SessionID)
	}
	if in.ProgramID != "" {
		req.ProgramID = boundID(in.ProgramID)
	}
}

// read returns what headers say, each empty if they do not. Who says what the conversation is also says what it is part of.
func (n *headerNames) read(h map[string][]string) (session, program string) {
	if session = getID(h, n.session); session != "" {
		program = getID(h, "X-Parent-Session-Id")
	} else {
		session, program = readAgents(h)
	}
	return session, cmp.Or(getID(h, n.program), program)
}

func readAgents(h map[string][]string) (session, program string) {
	for i := range agents {
		a := &agents[i]
		session = getID(h, a.session)
		if session == "" {
			continue
		}
		if a.part != "" {
			program = session // of all parts of the run, and of what is none
			if part := getID(h, a.part); part != "" && part != session {
				session = boundID(session + "/" + part)
			}
		} else if a.parent != "" {
			program = getID(h, a.parent)
		}
		return session, program
	}
	return "", ""
}
