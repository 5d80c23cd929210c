// Package rollout moves traffic from one target model to another, step by step, and judges the new one by how its
// requests end: a canary. It is meant for LoRA adapters, and works for whatever a model name can be mapped to.
//
// What decides is pure: a Machine is told what has happened (Observe) and what the world is like (Tick), both with the
// time, and says what to do. A Controller is the thin part around it: it loads adapters (Loader), writes weights and
// state in one step (Home), and hears what other gateways saw (Peer).
package rollout
