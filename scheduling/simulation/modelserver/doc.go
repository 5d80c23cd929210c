// Package modelserver runs simulated model servers: real HTTP servers on
// loopback that answer OpenAI requests with made-up words at the pace of a real
// inference engine. No model is loaded and no GPU is needed. What is simulated
// is the part a router can feel: batching, queueing, KV cache, prefix cache and
// LoRA slots, by the package engine below it.
//
//	s, err := modelserver.Start(ctx, modelserver.Options{Name: "a"})
//	if err != nil {
//		return err
//	}
//	defer s.Close()
//	resp, err := http.Post(s.URL()+"/v1/chat/completions", …)
//
// A server looks like a vLLM server, with the APIs of others besides. By [Family]:
//
//   - text: /v1/chat/completions, /v1/completions, /v1/responses with /v1/conversations, /v1/messages
//   - pooling: /v1/embeddings, /pooling, /classify, /score, /rerank (/v1/, /v2/), /v1/moderations
//   - audio: /v1/audio/transcriptions, /v1/audio/translations, /v1/audio/speech
//   - images: /v1/images/generations, /v1/images/edits, /v1/images/variations
//   - videos: the jobs of /v1/videos, and /v1/videos/sync
//   - batches: /v1/files and /v1/batches
//   - realtime: /v1/realtime, sessions of text over a websocket
//
// All have /v1/models, /v1/load_lora_adapter, /v1/unload_lora_adapter, /health, and /metrics with vLLM's names. Every
// reply carries "simulated" in the Server header and the server's name in X-Sim-Server. Films, files, batches,
// responses and conversations are known to the server alone that made them, until it ends or has newer ones.
//
// # Text and tokens
//
// Four bytes of text are one token; each part of a chat begins a new one, after
// one for its role. Equal text gives equal tokens and so equal KV blocks, in
// the adapter and cache_salt it was sent with. The words of a reply are four
// bytes long too, so a conversation that quotes the reply hits the cache beyond
// it. Words and length of a reply are drawn from a generator seeded by the
// prompt: servers with the same Options.Seed answer alike. The request header
// or field x-sim-output-tokens fixes the length instead, for replaying a trace.
//
// A picture in a chat counts one token for each 32 x 32 pixels, and sound 25 a second; a transcription 1,500 for each
// 30 s of it. Pictures and films are made by a model of its own, one request after another, in passes x size of a
// pass x Options.Denoise.
//
// # Failures
//
// [Server.Kill] crashes a server in the middle of its streams and
// [Server.Restart] brings it back with an empty cache. [Server.HangMetrics],
// [Server.GarbageMetrics] and [Server.FailNext] make it misbehave. [Server.Fault] makes a bad adapter: one that
// loads slowly or not at all, or whose requests fail, are answered with nothing, or take long.
package modelserver
