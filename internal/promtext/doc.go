// Package promtext picks a few metrics out of a page in the Prometheus text
// exposition format, without allocating and without reading what it does not
// need.
//
// A model server's page holds some 600 lines of histograms, and a scheduler
// wants eight gauges of it. A parser that builds every sample spends nearly all
// its time on the rest. A [Scanner] is given the names that are wanted, once,
// as a [Set]; it walks the page line by line, compares names as a whole, and
// stops only at their samples:
//
//	set := promtext.NewSet("vllm:num_requests_waiting", "vllm:num_requests_running")
//	var s promtext.Scanner
//	s.Reset(set, page)
//	for s.Next() {
//		switch s.Index() {
//		case 0:
//			waiting += s.Value()
//		case 1:
//			running += s.Value()
//		}
//	}
//	if err := s.Err(); err != nil {
//		return err
//	}
//
// # What is accepted
//
// The text format 0.0.4, names of metrics and labels in quotes included, and of
// OpenMetrics what differs from it: "# EOF", exemplars, and timestamps in
// seconds. Where the reference parser (expfmt of prometheus/common) accepts a
// page, the samples of wanted metrics are the same here.
//
// Lines of other metrics and comments are not looked at beyond the name, so what
// is wrong in them goes unnoticed: they are not this reader's concern, and one
// odd line that an engine prints must not cost all its figures. A line of a
// wanted metric that cannot be read is an error, and so is one that the end of
// the page cuts off, even if a number can be seen: "12" may have been "128".
package promtext
