package kvevents

// media are the names that engines have for where blocks are, in upper case.
var media = map[string]Tier{
	"": GPU, "GPU": GPU, "DEVICE": GPU,
	"CPU": CPU, "CPU_PINNED": CPU, "CPU_TIER1": CPU, "HOST": CPU,
	"CPU_TIER2": Disk, "DISK": Disk, "NVME": Disk, "SSD": Disk, "FS": Disk, "STORAGE": Disk,
	"OBJ": Remote, "EXTERNAL": Remote, "NETWORK": Remote, "REMOTE": Remote, "SHARED": Remote,
}

// tierOf returns the tier that an engine means by the name of a medium. Unknown ones are Remote,
// the last: what they cost is learned.
func tierOf(medium []byte) Tier {
	var upper [16]byte
	if len(medium) > len(upper) {
		return Remote
	}
	for i, c := range medium {
		if c >= 'a' && c <= 'z' {
			c -= 'a' - 'A'
		}
		upper[i] = c
	}
	if t, ok := media[string(upper[:len(medium)])]; ok {
		return t
	}
	return Remote
}
