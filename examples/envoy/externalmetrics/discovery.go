package externalmetrics

import (
	"net/http"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

var served = metav1.GroupVersionForDiscovery{GroupVersion: groupVersion, Version: Version}

func apiGroup() metav1.APIGroup {
	return metav1.APIGroup{Name: Group, Versions: []metav1.GroupVersionForDiscovery{served}, PreferredVersion: served}
}

func (s *Server) groups(*http.Request) (any, *metav1.Status) {
	return metav1.APIGroupList{
		TypeMeta: metav1.TypeMeta{Kind: "APIGroupList", APIVersion: "v1"}, Groups: []metav1.APIGroup{apiGroup()},
	}, nil
}

func (s *Server) group(*http.Request) (any, *metav1.Status) {
	g := apiGroup()
	g.TypeMeta = metav1.TypeMeta{Kind: "APIGroup", APIVersion: "v1"}
	return g, nil
}

// resources has one name for all metrics, as other providers do: which there are depends on the pools.
func (s *Server) resources(*http.Request) (any, *metav1.Status) {
	return metav1.APIResourceList{
		TypeMeta: metav1.TypeMeta{Kind: "APIResourceList", APIVersion: "v1"}, GroupVersion: groupVersion,
		APIResources: []metav1.APIResource{
			{Name: "externalmetrics", Namespaced: true, Kind: listKind, Verbs: metav1.Verbs{"get"}},
		},
	}, nil
}
