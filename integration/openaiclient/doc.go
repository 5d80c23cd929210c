// Package openaiclient has no code: its tests drive the gateway of the quickstart, and gateways in
// front of engines that serve requests together, with the official OpenAI client for Go, as a user would.
package openaiclient
