package httptransport

// DialWire is for tests of what dials.
var DialWire = dialWire
