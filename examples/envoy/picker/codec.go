package picker

import (
	"bytes"
	"fmt"

	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// Codec is a gRPC codec for protobuf that moves large bodies with fewer copies than
// the default one: install it with grpc.ForceServerCodecV2(picker.NewCodec()). On the
// wire it is the same, and messages of other services pass through it as well.
//
// A body that is received is a part of the memory that the message was read into, and
// a chunk of a request that is given back is sent from where it is: it must not be
// changed after it was handed to Send, which a Server does not.
type Codec struct{ pool mem.BufferPool }

// NewCodec returns a Codec.
func NewCodec() *Codec {
	// The default pool has nothing between 32 KiB and 1 MiB, and clears what it hands
	// out: 1 MiB for each chunk.
	return &Codec{pool: mem.NewTieredBufferPool(256, 1<<10, 4<<10, 16<<10, 32<<10, 64<<10, 128<<10, 256<<10, 512<<10, 1<<20)}
}

// Name implements encoding.CodecV2.
func (*Codec) Name() string { return "proto" }

// smallBody is the size below which a copy costs less than what avoids it.
const smallBody = 1 << 10

// Marshal implements encoding.CodecV2.
func (c *Codec) Marshal(v any) (mem.BufferSlice, error) {
	if r, ok := v.(*extprocv3.ProcessingResponse); ok {
		if data, ok := marshalChunk(r); ok {
			return data, nil
		}
	}
	m, ok := v.(proto.Message)
	if !ok {
		return nil, fmt.Errorf("picker: codec got a %T, want a proto.Message", v)
	}
	size := proto.Size(m)
	o := proto.MarshalOptions{UseCachedSize: true} // nobody changed it since
	if mem.IsBelowBufferPoolingThreshold(size) {
		data, err := o.Marshal(m)
		return mem.BufferSlice{mem.SliceBuffer(data)}, err
	}
	buf := c.pool.Get(size)
	if _, err := o.MarshalAppend((*buf)[:0], m); err != nil {
		c.pool.Put(buf)
		return nil, err
	}
	return mem.BufferSlice{mem.NewBuffer(buf, c.pool)}, nil
}

// Unmarshal implements encoding.CodecV2.
func (c *Codec) Unmarshal(data mem.BufferSlice, v any) error {
	if r, ok := v.(*extprocv3.ProcessingRequest); ok && data.Len() >= smallBody {
		// Memory of its own, of which the body becomes a part.
		return unmarshalRequest(join(data), r)
	}
	m, ok := v.(proto.Message)
	if !ok {
		return fmt.Errorf("picker: codec got a %T, want a proto.Message", v)
	}
	buf := data.MaterializeToBuffer(c.pool)
	defer buf.Free()
	return proto.Unmarshal(buf.ReadOnlyData(), m)
}

// join returns data in one piece of new memory, which is not cleared before it is
// filled, as that of mem.BufferSlice.Materialize is.
func join(data mem.BufferSlice) []byte {
	parts := make([][]byte, 0, 16)
	for _, b := range data {
		parts = append(parts, b.ReadOnlyData())
	}
	return bytes.Join(parts, nil)
}

// Numbers of fields.
const (
	fieldRequestBody  = 4 // of ProcessingRequest
	fieldResponseBody = 5
	fieldBody         = 1 // of HttpBody and StreamedBodyResponse
	fieldEndOfStream  = 2

	// On the way from a ProcessingResponse to a chunk of a request's body.
	fieldBodyResponse  = 3 // request_body
	fieldCommon        = 1 // response
	fieldBodyMutation  = 3 // body_mutation
	fieldStreamedChunk = 3 // streamed_response
)

// unmarshalRequest reads a message. If it is a body, that shares the memory of data.
func unmarshalRequest(data []byte, r *extprocv3.ProcessingRequest) error {
	body, rest, response, ok := cutBody(data)
	if !ok {
		return proto.Unmarshal(data, r)
	}
	if err := proto.Unmarshal(rest, r); err != nil {
		return err
	}
	if r.Request != nil { // a second part of a request in one message
		return proto.Unmarshal(data, r)
	}
	if response {
		r.Request = &extprocv3.ProcessingRequest_ResponseBody{ResponseBody: body}
	} else {
		r.Request = &extprocv3.ProcessingRequest_RequestBody{RequestBody: body}
	}
	return nil
}

// cutBody takes the one body out of a message and returns it and the other fields. It
// is not ok if there is none, or something that is not expected.
func cutBody(data []byte) (body *extprocv3.HttpBody, rest []byte, response, ok bool) {
	for len(data) > 0 {
		number, kind, n := protowire.ConsumeTag(data)
		if n < 0 {
			return nil, nil, false, false
		}
		size := protowire.ConsumeFieldValue(number, kind, data[n:])
		if size < 0 {
			return nil, nil, false, false
		}
		field := data[:n+size]
		if number != fieldRequestBody && number != fieldResponseBody || kind != protowire.BytesType {
			rest = append(rest, field...)
			data = data[len(field):]
			continue
		}
		inner, _ := protowire.ConsumeBytes(field[n:])
		if body != nil {
			return nil, nil, false, false
		}
		if body, ok = readBody(inner); !ok {
			return nil, nil, false, false
		}
		response = number == fieldResponseBody
		data = data[len(field):]
	}
	return body, rest, response, body != nil
}

// readBody reads an HttpBody that has but the fields that are used.
func readBody(data []byte) (*extprocv3.HttpBody, bool) {
	b := new(extprocv3.HttpBody)
	for len(data) > 0 {
		number, kind, n := protowire.ConsumeTag(data)
		if n < 0 {
			return nil, false
		}
		data = data[n:]
		switch {
		case number == fieldBody && kind == protowire.BytesType:
			v, n := protowire.ConsumeBytes(data)
			if n < 0 {
				return nil, false
			}
			b.Body, data = v[:len(v):len(v)], data[n:]
		case number == fieldEndOfStream && kind == protowire.VarintType:
			v, n := protowire.ConsumeVarint(data)
			if n < 0 {
				return nil, false
			}
			b.EndOfStream, data = protowire.DecodeBool(v), data[n:]
		default:
			return nil, false
		}
	}
	return b, true
}

// marshalChunk encodes a chunk of a request's body without a copy of it. It is not ok
// for any other message.
func marshalChunk(r *extprocv3.ProcessingResponse) (mem.BufferSlice, bool) {
	part, ok := r.Response.(*extprocv3.ProcessingResponse_RequestBody)
	if !ok || r.DynamicMetadata != nil || r.ModeOverride != nil || r.OverrideMessageTimeout != nil {
		return nil, false
	}
	common := part.RequestBody.GetResponse()
	chunk := common.GetBodyMutation().GetStreamedResponse()
	if len(chunk.GetBody()) < smallBody || common.HeaderMutation != nil || common.Trailers != nil || common.Status != 0 {
		return nil, false
	}
	// Sizes from the inside out; the body comes last, so that all else is before it.
	inner := protowire.SizeTag(fieldBody) + protowire.SizeBytes(len(chunk.Body))
	if chunk.EndOfStream {
		inner += protowire.SizeTag(fieldEndOfStream) + 1
	}
	path := [...]protowire.Number{fieldBodyResponse, fieldCommon, fieldBodyMutation, fieldStreamedChunk}
	var sizes [len(path)]int
	size := inner
	for i := len(path) - 1; i >= 0; i-- {
		sizes[i] = size
		size = protowire.SizeTag(path[i]) + protowire.SizeBytes(size)
	}
	head := make([]byte, 0, 48)
	for i, number := range path {
		head = protowire.AppendTag(head, number, protowire.BytesType)
		head = protowire.AppendVarint(head, uint64(sizes[i]))
	}
	if chunk.EndOfStream {
		head = protowire.AppendTag(head, fieldEndOfStream, protowire.VarintType)
		head = protowire.AppendVarint(head, 1)
	}
	head = protowire.AppendTag(head, fieldBody, protowire.BytesType)
	head = protowire.AppendVarint(head, uint64(len(chunk.Body)))
	return mem.BufferSlice{mem.SliceBuffer(head), mem.SliceBuffer(chunk.Body)}, true
}
