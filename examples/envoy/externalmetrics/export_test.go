package externalmetrics

import (
	"encoding/json"
	"net/http/httptest"
	"net/url"
)

// Value answers as values does, to whomever.
func Value(s *Server, namespace, metric, selector string) (code int, body string) {
	r := httptest.NewRequest("GET", "/?labelSelector="+url.QueryEscape(selector), nil)
	r.SetPathValue("namespace", namespace)
	r.SetPathValue("metric", metric)
	found, status := s.values(r)
	code = 200
	if status != nil {
		found, code = status, int(status.Code)
	}
	text, err := json.Marshal(found)
	if err != nil {
		panic(err)
	}
	return code, string(text)
}
