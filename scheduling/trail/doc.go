// Package trail keeps what became of conversations, in order: of each request of a session when it came, how long it
// waited, where it went, what was taken to be cached there and what was, and how it ended. It answers "what happened to this
// agent?", as scheduling.Explanation answers "why that server?".
//
//	t, err := trail.New(trail.Options{})
//	profile.Hooks = t.Hooks(profile.Hooks)                                      // of each scheduler
//	admission.Hooks{Dispatched: func(k *admission.Ticket, waited time.Duration) { t.Waited(k.Request(), waited) }}
//	director.Options{OnRefused: func(req *types.Request, _ types.NamespacedName, err *director.Error) {
//		t.Refused(req, err.Code, err.Status)
//	}}
//	mux.Handle("GET /explain", t.Handler())                                     // for operators alone
//
// Only requests with a types.Request.SessionID are kept, or with a ProgramID, and not those that only ask for what a server
// keeps (types.Fetches). It is memory: of sessions those that were
// used last, and of each its last requests, within the bounds of [Options]; no text of prompts and answers. Tenants are
// kept apart: who asks names the tenant, and a program is that of one tenant.
package trail
