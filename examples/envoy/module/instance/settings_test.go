package instance_test

import (
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/inferpick/inferpick/examples/envoy/module/instance"
)

// TestRoutesOfOldEnvoys: Envoy 1.38 gives what a route says as it was encoded.
func TestRoutesOfOldEnvoys(t *testing.T) {
	all := instance.New(instance.Options{})
	encoded := func(m proto.Message) []byte {
		b, err := proto.Marshal(m)
		require.NoError(t, err)
		return b
	}
	object := func(fields map[string]any) []byte {
		s, err := structpb.NewStruct(fields)
		require.NoError(t, err)
		return encoded(s)
	}
	want, err := all.NewRoute("main", []byte(`{"pool": "default/other", "destinations": 2}`))
	require.NoError(t, err)
	got, err := all.NewRoute("main", object(map[string]any{"pool": "default/other", "destinations": 2}))
	require.NoError(t, err)
	require.Equal(t, want, got)

	_, err = all.NewRoute("main", object(map[string]any{"pol": "other"}))
	require.ErrorContains(t, err, "a route has no pol")
	for _, m := range []proto.Message{wrapperspb.Int64(5), wrapperspb.String("x"), &structpb.ListValue{Values: []*structpb.Value{structpb.NewStringValue("a")}}} {
		_, err := all.NewRoute("main", encoded(m))
		require.ErrorContains(t, err, "want a google.protobuf.Struct", "%T", m)
	}
}
