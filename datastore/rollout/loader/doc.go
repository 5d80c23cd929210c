// Package loader gets LoRA adapters onto model servers over HTTP, and looks whether they are there: each type is a
// rollout.Loader.
//
//	c, err := loader.New(loader.Options{Header: http.Header{"Authorization": {"Bearer " + key}}})
//	if err != nil {
//		return err
//	}
//	defer c.Close()
//	err = c.Auto().Load(ctx, endpoint, "sql-v2", "/adapters/sql-v2")
//
// Which one: [Client.Auto] asks each server what it is. [Client.VLLM] and [Client.SGLang] use the API of those.
// [Client.Resolver] is for vLLM with a resolver plugin, which loads an adapter when it is first asked for.
// [Client.Manual] waits until somebody else (a sidecar, an operator) has loaded it. [Client.Func] is for whatever else
// there is: it takes the calls that load and unload, and does the rest.
//
// # What a successful Load means
//
// The server lists the adapter (GET /v1/models) with the wanted source as its root, and has answered a request of one
// token (or, where it takes none, for an embedding) under its name with status 200 and that name. A metric does not say
// as much: vllm:lora_requests_info has an adapter only while it has requests. Whether other requests will be answered
// well is for the rollout to judge.
//
// An adapter that is there already is not loaded again, and one that is there from another source is ErrTaken: a new
// version has a new name. Replacing weights under a name (load_inplace of vLLM) is never asked for: the flag stays
// with the adapter, which is then read from disk again and again, and prefix caches of the old weights are not dropped.
//
// All calls for one address are made one after the other: data-parallel ranks of one server load an adapter once, and
// each is probed by itself.
//
// # What servers are like
//
// Tried with vLLM 0.32, and read in the source of SGLang 0.5:
//
//   - vLLM has the two paths, and its resolvers, only with VLLM_ALLOW_RUNTIME_LORA_UPDATING=True in its environment,
//     and adapters at all only with --enable-lora; without the one it is ErrOff (404), without the other ErrRefused (500).
//     The paths let whoever reaches the server load files: do not let clients reach them through the gateway.
//   - A source without an adapter is a 404 with a NotFoundError, whose text has no paths in it: errors here name the
//     source. Whatever else the engine cannot load, a rank above --max-lora-rank or other shapes than those of the
//     model, is a 500 with the reason in its text, not a 400 as in earlier versions; the engine goes on unharmed.
//   - --max-loras bounds how many adapters are in one batch, not how many are loaded.
//   - Unloading makes vLLM forget the name at once. Requests under way end well, later ones get a 404. The weights stay
//     in memory until others take their place. With a resolver the next request loads it again.
//   - With several API servers in one process group (--api-server-count) vLLM refuses to start with runtime loading.
//   - The file system resolver takes only adapters whose adapter_config.json names the model as it was given to
//     vllm serve in base_model_name_or_path. Others do not exist for it (404).
//   - SGLang knows an adapter by the model name base:adapter, and lists it without the base. A model name without a
//     colon is answered by the base model, whatever it is: so names without one are refused here.
//   - SGLang unloads an adapter when its last request has ended, and does not answer before. A later request loads it
//     again from where it was. It loads nothing at run time if it has several data-parallel ranks.
package loader
