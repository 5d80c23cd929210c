module github.com/inferpick/inferpick/examples/wasm

go 1.26.0

require (
	github.com/google/go-cmp v0.7.0
	github.com/inferpick/inferpick v0.0.0
	github.com/stretchr/testify v1.12.1
	github.com/tetratelabs/wazero v1.12.0
)

require (
	go.yaml.in/yaml/v3 v3.0.5 // indirect
	golang.org/x/sys v0.44.0 // indirect
)

replace github.com/inferpick/inferpick => ../..
