// Command generate makes Go of a .proto file without protoc: it compiles the file itself, and hands what it finds to
// the plugins of protoc that its go.mod names as tools.
//
//	go run . DIR FILE.proto
//
// What the plugins write is put into DIR, beside the .proto file.
package main

import (
	"bytes"
	"context"
	"fmt"
	"log"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/bufbuild/protocompile"
	"github.com/bufbuild/protocompile/protoutil"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/pluginpb"
)

func main() {
	log.SetFlags(0)
	if len(os.Args) != 3 {
		log.Fatal("usage: generate DIR FILE.proto")
	}
	if err := generate(os.Args[1], os.Args[2]); err != nil {
		log.Fatalf("generate: %v", err)
	}
}

// plugins of protoc, by their names among the tools of the go command, and what they are told.
var plugins = []struct{ tool, parameter string }{
	{"protoc-gen-go", "paths=source_relative"},
	{"protoc-gen-go-grpc", "paths=source_relative,require_unimplemented_servers=true"},
}

func generate(dir, file string) error {
	compiler := protocompile.Compiler{
		Resolver:       &protocompile.SourceResolver{ImportPaths: []string{dir}},
		SourceInfoMode: protocompile.SourceInfoStandard, // comments
	}
	files, err := compiler.Compile(context.Background(), file)
	if err != nil {
		return err
	}
	for _, p := range plugins {
		request := &pluginpb.CodeGeneratorRequest{
			FileToGenerate: []string{file}, Parameter: proto.String(p.parameter),
			ProtoFile: []*descriptorpb.FileDescriptorProto{protoutil.ProtoFromFileDescriptor(files[0])},
		}
		made, err := ask(p.tool, request)
		if err != nil {
			return err
		}
		for _, f := range made.File {
			if err := os.WriteFile(filepath.Join(dir, f.GetName()), []byte(f.GetContent()), 0o644); err != nil {
				return err
			}
		}
	}
	return nil
}

// ask runs a plugin.
func ask(tool string, request *pluginpb.CodeGeneratorRequest) (*pluginpb.CodeGeneratorResponse, error) {
	in, err := proto.Marshal(request)
	if err != nil {
		return nil, err
	}
	cmd := exec.Command("go", "tool", tool)
	cmd.Stdin, cmd.Stderr = bytes.NewReader(in), os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", tool, err)
	}
	answer := new(pluginpb.CodeGeneratorResponse)
	if err := proto.Unmarshal(out, answer); err != nil {
		return nil, fmt.Errorf("%s: %w", tool, err)
	}
	if answer.Error != nil {
		return nil, fmt.Errorf("%s: %s", tool, answer.GetError())
	}
	return answer, nil
}
