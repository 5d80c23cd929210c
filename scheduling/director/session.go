package director

import (
	"strings"

	"github.com/inferpick/inferpick/openai"
	"github.com/inferpick/inferpick/types"
)

// This file is about sessions: websockets over which a model listens and speaks, as /v1/realtime, for as long as the
// connection lives. All that is known of one is its head: the model is in the query.

// AsksForWebsocket reports whether a request asks for a websocket, without which its client can do nothing: over HTTP/1, or
// as data planes show one that came over HTTP/2. Other protocols that a client offers may be ignored (RFC 9110, section
// 7.8). The header is in the form of net/http.
func AsksForWebsocket(method string, header map[string][]string) bool {
	if method != "GET" {
		return false
	}
	for _, line := range header["Upgrade"] {
		for offer := range strings.SplitSeq(line, ",") {
			name, _, _ := strings.Cut(strings.TrimSpace(offer), "/")
			if strings.EqualFold(name, "websocket") {
				return true
			}
		}
	}
	return false
}

// converse fills in what a request is that begins a session.
func (r *Route) converse(in *Incoming) {
	req := &r.Request
	r.session, r.generates, r.polls = true, true, false
	req.Work = types.Work{Kind: types.Converses}
	req.Model, _ = openai.QueryModel(in.Path)
	req.SessionID = boundID(sessionIn(in.Path))
	r.modelless = req.Model == ""
}

// sessionIn returns the session that a query names, as it is escaped there: it is only compared with others.
func sessionIn(path string) string {
	_, query, _ := strings.Cut(path, "?")
	for pair := range strings.SplitSeq(query, "&") {
		if id, ok := strings.CutPrefix(pair, "session_id="); ok {
			return id
		}
	}
	return ""
}

// RequestPath returns the path to send, with its query: as it came in, but that the query of a session names the model as
// the server knows it.
func (r *Route) RequestPath() string { return r.sent }

// Alive is a sign of life of a request of which nothing comes by Data: bytes that its client sends in a session.
func (r *Route) Alive() {
	r.decision.Alive()
	if r.ticket != nil {
		r.ticket.Alive()
	}
}
