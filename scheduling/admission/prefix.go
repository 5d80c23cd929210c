package admission

import (
	"hash/maphash"

	"github.com/inferpick/inferpick/types"
)

// group is requests of a share whose prompts begin alike, in order of arrival.
type group struct {
	list[Ticket]
	key uint64
}

// prefixOf returns a number that prompts have in common that begin alike.
func (c *Controller) prefixOf(req *types.Request) uint64 {
	const head = 1024 // bytes
	var h maphash.Hash
	h.SetSeed(c.prefixes)
	h.WriteString(req.Target())
	h.WriteString(req.CacheSalt)
	left, data := head, req.PromptData()
	for _, span := range req.Prompt.Spans {
		if span.Start < 0 || span.End > len(data) || span.Start > span.End {
			break
		}
		part := data[span.Start:span.End]
		part = part[:min(len(part), left)]
		h.Write(part)
		if left -= len(part); left == 0 {
			break
		}
	}
	return h.Sum64()
}

// follow notes which group the share goes on with.
func (s *share) follow(t *Ticket, quantum float64) {
	if s.group != t.group {
		s.group, s.left = t.group, quantum
	}
	s.left -= t.charge
}

func (s *share) insertGroup(t *Ticket) {
	g := s.groups[t.prefix]
	if g == nil {
		if s.groups == nil {
			s.groups = map[uint64]*group{}
		}
		g = &group{key: t.prefix}
		s.groups[t.prefix] = g
	}
	t.group = g
	inOrder(&g.list, t, &t.inGroup)
}

func (s *share) removeGroup(t *Ticket) {
	g := t.group
	g.list.remove(&t.inGroup)
	t.group = nil
	if g.head == nil {
		delete(s.groups, g.key)
		if s.group == g {
			s.group = nil
		}
	}
}
