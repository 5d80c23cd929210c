// Package filewatch notices that files have changed and reads them whole: it is what all
// watched files have in common, be it a configuration, a list of endpoints, a certificate or
// a token. It starts no goroutine: who uses it looks when it likes, at every interval
// ([Every]) or when a file is needed.
//
// It polls and does not ask the kernel to be told (inotify, fsnotify), because that costs
// more than it gives here. A look is one stat a file, some microseconds; a second is soon
// enough for what people and Kubernetes write. Polling needs no module, knows no limit of
// watches, loses no event, and works where events do not come: on network file systems, and
// where a directory, a link on the way or a mount is replaced, after which a watch is of
// what nobody names any more.
//
// A file is another one if its size, its time of modification or its identity (inode) is. A
// time of modification that is too close to the reading proves nothing, as in git's index:
// such a file is read again. What was read is another version only if its contents are, by
// their hash.
//
// So these are noticed, each once and whole: a file that is written anew or in place, of the
// same size within the resolution of the clock, too; one that another is put in the place of
// (mv, the way of editors); a link that leads elsewhere, as ..data in a volume made of a
// ConfigMap or a Secret, of which all files are then of one version; files that come, go and
// come back. A file that changes while it is read is read again; one that is being written,
// with pauses, [Options.Quiet] leaves alone for a look.
package filewatch
