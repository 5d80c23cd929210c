// Package kvevents listens to what inference engines say that their prefix caches hold.
package kvevents
