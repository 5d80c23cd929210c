// Package vllm finds, starts and asks real vLLM servers that run on CPUs, for tests.
package vllm
