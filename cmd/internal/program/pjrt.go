package program

import "fmt"

// apiVersion is a version of the PJRT C API.
type apiVersion struct{ major, minor int }

func (v apiVersion) String() string { return fmt.Sprintf("%d.%d", v.major, v.minor) }

const (
	// builtForMinor is the minor version in go-xla v0.4.2's pjrt_c_api.h; the major version is 0.
	builtForMinor = 104
	// neededTable is the size in bytes of the plugin's table of functions up to the last that go-xla calls without asking
	// whether it is there, PJRT_Executable_GetCompiledMemoryStats.
	neededTable = 816
)

// checkVersion refuses a plugin whose functions cannot be called. A major version is another interface. Of minor versions
// the newer are made to serve older callers, and a table that ends early lacks functions.
func checkVersion(path string, v apiVersion, table int) (string, error) {
	own := apiVersion{0, builtForMinor}
	switch {
	case v.major != own.major:
		return "", fmt.Errorf("%s speaks the PJRT API %s, this program was built for %s, and major versions must agree: "+
			"take a plugin of another version", path, v, own)
	case table < neededTable:
		return "", fmt.Errorf("%s speaks the PJRT API %s, this program was built for %s: the plugin's table of functions has %d "+
			"bytes where %d are needed; take a newer plugin", path, v, own, table, neededTable)
	case v == own:
		return fmt.Sprintf("PJRT API %s", v), nil
	}
	return fmt.Sprintf("PJRT API %s (built for %s)", v, own), nil
}
