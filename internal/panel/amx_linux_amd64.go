//go:build goexperiment.simd

package panel

import "golang.org/x/sys/unix"

// permitted asks Linux for the registers of AMX, which a process has to before it uses them (Linux, Documentation/arch/x86/xstate.rst).
func permitted() bool {
	const (
		request  = 0x1023 // ARCH_REQ_XCOMP_PERM
		tileData = 18     // the state's number
	)
	_, _, err := unix.RawSyscall(unix.SYS_ARCH_PRCTL, request, tileData, 0)
	return err == 0
}
