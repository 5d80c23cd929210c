// Package engines has no code: its tests put the gateway in front of what others have
// written. Some need real model servers, and are skipped where there are none; the others
// play back what such servers said once.
//
// README.md says how to get the servers.
package engines
