// Package openaiclient has no code: its tests drive the gateway of the quickstart
// with the official OpenAI client for Go, as a user would.
package openaiclient
