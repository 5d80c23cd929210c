// Package externalscaler has the messages and the service of KEDA's external scalers, made of externalscaler.proto by
// generate.sh.
package externalscaler
