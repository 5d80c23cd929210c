package fakeapi

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// write answers get, create, update, patch and delete.
func (s *Server) write(w http.ResponseWriter, r *http.Request, resource Resource, q Request) {
	body := object{}
	if q.Verb == "create" || q.Verb == "update" || q.Verb == "patch" {
		data, err := io.ReadAll(r.Body)
		if err == nil {
			err = json.Unmarshal(data, &body)
		}
		if err != nil {
			badRequest(fmt.Errorf("body: %w", err)).write(w)
			return
		}
	}
	s.mu.Lock()
	o, code, f := s.writeLocked(resource, q, body, r.Header.Get("Content-Type"))
	s.mu.Unlock()
	if f != nil {
		f.write(w)
		return
	}
	answer(w, code, o)
}

func (s *Server) writeLocked(resource Resource, q Request, body object, patch string) (object, int, *Failure) {
	if q.Name == "" {
		q.Name, _ = text(body, "metadata", "name")
	}
	what := resource.Plural + " " + q.Namespace + "/" + q.Name
	old, exists := s.resources[resource][q.Namespace+"/"+q.Name]
	apply := strings.HasPrefix(patch, "application/apply-patch")
	switch {
	case q.Verb == "create" && exists:
		return nil, 0, &Failure{Code: http.StatusConflict, Reason: "AlreadyExists", Message: what + " already exists"}
	case q.Verb != "create" && !exists && !(apply && q.Subresource == ""):
		return nil, 0, notFound(what)
	case q.Verb == "get":
		return old, http.StatusOK, nil
	case q.Verb == "delete":
		s.removeLocked(resource, old)
		s.wakeLocked()
		return (&Failure{Code: http.StatusOK}).status(), http.StatusOK, nil
	}
	if version, _ := text(body, "metadata", "resourceVersion"); exists && version != "" && version != meta(old)["resourceVersion"] {
		return nil, 0, conflict(what)
	}
	if uid, _ := text(body, "metadata", "uid"); exists && uid != "" && uid != meta(old)["uid"] {
		return nil, 0, conflict(what)
	}
	next := clone(body)
	if exists && q.Verb == "patch" {
		next = merge(clone(old), body, patch != "application/merge-patch+json")
	}
	if resource.Status {
		next = separate(old, next, q.Subresource == "status")
	}
	m := meta(next)
	m["namespace"], m["name"] = q.Namespace, q.Name
	next["apiVersion"], next["kind"] = resource.GroupVersion(), resource.Kind
	delete(m, "resourceVersion")
	next = s.putLocked(resource, next)
	s.wakeLocked()
	if exists {
		return next, http.StatusOK, nil
	}
	return next, http.StatusCreated, nil
}

// separate keeps the part of an object that a write is not for.
func separate(old, next object, status bool) object {
	if !status {
		delete(next, "status")
		if old["status"] != nil {
			next["status"] = clone(old)["status"]
		}
		return next
	}
	kept := clone(old)
	delete(kept, "status")
	if next["status"] != nil {
		kept["status"] = next["status"]
	}
	return kept
}

// merge applies a patch: null deletes. With byType the items of lists are merged that have the
// same field "type", as in conditions; else lists are replaced.
func merge(to, patch object, byType bool) object {
	for field, v := range patch {
		switch v := v.(type) {
		case nil:
			delete(to, field)
		case object:
			inner, ok := to[field].(object)
			if !ok {
				inner = object{}
			}
			to[field] = merge(inner, v, byType)
		case []any:
			old, _ := to[field].([]any)
			if byType {
				v = mergeItems(old, v)
			}
			to[field] = v
		default:
			to[field] = v
		}
	}
	return to
}

func mergeItems(old, patch []any) []any {
	out := append([]any(nil), old...)
next:
	for _, p := range patch {
		item, _ := p.(object)
		kind, ok := text(item, "type")
		if !ok {
			return patch
		}
		for i := range out {
			if o, _ := out[i].(object); o["type"] == kind {
				out[i] = merge(o, item, true)
				continue next
			}
		}
		out = append(out, item)
	}
	return out
}
