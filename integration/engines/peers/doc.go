// Package peers finds and starts what others have written and is not an engine, or mocks
// one: the router of SGLang, and Dynamo's mock engines.
package peers
