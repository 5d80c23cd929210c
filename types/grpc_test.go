package types_test

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/types"
)

func TestGRPCStatus(t *testing.T) {
	want := [...]int{200, 499, 500, 400, 504, 404, 400, 403, 429, 400, 500, 400, 501, 500, 503, 500, 401, 500}
	for code, status := range want {
		require.Equal(t, status, types.GRPCStatus(uint32(code)), "code %d", code)
	}
	require.Equal(t, 500, types.GRPCStatus(1<<32-1))
}

func TestGRPCEnd(t *testing.T) {
	err := errors.New("as the library has it")
	for name, tt := range map[string]struct {
		end  types.GRPCEnd
		want types.Outcome
	}{
		"ok":                    {types.GRPCEnd{Sent: true, Received: true, Messages: 3}, types.Outcome{Status: 200, Tokens: 3}},
		"cancelled":             {types.GRPCEnd{Code: 1, Err: err, Sent: true}, types.Outcome{Cancelled: true}},
		"deadline":              {types.GRPCEnd{Code: 4, Err: err, Sent: true}, types.Outcome{Err: context.DeadlineExceeded}},
		"the client's fault":    {types.GRPCEnd{Code: 3, Err: err, Sent: true, Received: true}, types.Outcome{Status: 400}},
		"busy":                  {types.GRPCEnd{Code: 8, Err: err, Sent: true, Received: true}, types.Outcome{Status: 429}},
		"the server's fault":    {types.GRPCEnd{Code: 13, Err: err, Sent: true, Received: true, Messages: 1}, types.Outcome{Status: 500, Err: err, Tokens: 1}},
		"unavailable, it says":  {types.GRPCEnd{Code: 14, Err: err, Sent: true, Received: true}, types.Outcome{Status: 503, Err: err}},
		"unavailable, it is":    {types.GRPCEnd{Code: 14, Err: err, Sent: true}, types.Outcome{Err: err}},
		"unavailable, it broke": {types.GRPCEnd{Code: 14, Err: err, Sent: true, Received: true, Messages: 2}, types.Outcome{Err: err, Tokens: 2}},
		"unavailable, unsent":   {types.GRPCEnd{Code: 14, Err: err}, types.Outcome{Err: err, Unsent: true}},
	} {
		require.Equal(t, tt.want, tt.end.Outcome(), name)
	}
	lost := types.GRPCEnd{}.Outcome()
	require.True(t, lost.Unsent)
	require.Zero(t, lost.Status)
	require.Error(t, lost.Err)
}
