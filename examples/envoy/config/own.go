package config

import (
	"encoding/json"

	"github.com/inferpick/inferpick/internal/check"
	"github.com/inferpick/inferpick/internal/strictjson"
	"github.com/inferpick/inferpick/scheduling/autoscale"
)

// own reads a section of our own, which has the form of T. It returns nil if something is wrong with it, which is told.
func own[T any](t *translation, f fields) *T {
	if f.m == nil {
		return nil // told
	}
	data, err := json.Marshal(f.m)
	if err != nil {
		t.Add(f.path, err)
		return nil
	}
	o := strictjson.Options{}
	if !t.strict {
		o.Unknown = func(e *check.Error) { t.warnf("%s.%s; it has no effect", f.path, e.Text()) }
	}
	v := new(T)
	if err := strictjson.Decode(data, v, o); err != nil {
		t.Add(f.path, err)
		return nil
	}
	return v
}

// policySection is an autoscale.Policy that does not read itself: fields that are not known are for own to warn of.
type policySection autoscale.Policy

// autoscale returns how pools are scaled.
func (t *translation) autoscale() autoscale.Policy {
	if t.get("autoscale") == nil {
		return autoscale.Policy{}
	}
	section := own[policySection](t, t.object("autoscale"))
	if section == nil {
		return autoscale.Policy{}
	}
	p := autoscale.Policy(*section)
	if err := p.Validate(); err != nil {
		t.Add("autoscale", err)
	}
	return p
}
