package plugins

// SealSnapshot returns content as a snapshot of that name.
func SealSnapshot(content []byte, name string) []byte {
	return sealSnapshot(append([]byte{}, content...), 0, name)
}

// Unmet returns how many endpoints were heard of but not met.
func (f *Ejection) Unmet() int { return int(f.unmet.Load()) }
