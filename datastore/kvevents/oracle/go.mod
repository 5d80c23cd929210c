module github.com/inferpick/inferpick/datastore/kvevents/oracle

go 1.26

require (
	github.com/go-zeromq/zmq4 v0.17.0
	github.com/inferpick/inferpick v0.0.0
	github.com/stretchr/testify v1.12.1
	github.com/vmihailenco/msgpack/v5 v5.4.1
)

require (
	github.com/go-zeromq/goczmq/v4 v4.2.2 // indirect
	github.com/vmihailenco/tagparser/v2 v2.0.0 // indirect
	go.yaml.in/yaml/v3 v3.0.5 // indirect
	golang.org/x/sync v0.7.0 // indirect
	golang.org/x/text v0.15.0 // indirect
)

replace github.com/inferpick/inferpick => ../../..
