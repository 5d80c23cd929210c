package autoscale

func mergeSignals(own []Signals, missing int) Signals { return Signals{} }
