//go:build cgo

package program

// #cgo LDFLAGS: -ldl
// #include <dlfcn.h>
// #include <stdlib.h>
//
// typedef struct { // how every PJRT_Api begins, whatever its version
//   size_t size;
//   void *extensions;
//   struct { size_t size; void *extensions; int major, minor; } version;
// } api_head;
//
// static const api_head *get_api(void *f) { return ((const api_head *(*)(void))f)(); }
// static int init(void *f) { return ((int (*)(unsigned))f)(0); }
// static int get_int(void *f, int *n) { return ((int (*)(int *))f)(n); }
// static int get_name(void *f, char *name, int size) { return ((int (*)(char *, int, int))f)(name, size, 0); }
// static int get_text(void *f, int code, const char **text) { return ((int (*)(int, const char **))f)(code, text); }
import "C"

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"unsafe"
)

// library is a shared library that stays loaded: those of CUDA do not bear being unloaded.
type library struct{ handle unsafe.Pointer }

// load opens a library by path, or by name where the loader looks; its error is the loader's message.
func load(name string) (library, error) {
	text := C.CString(name)
	defer C.free(unsafe.Pointer(text))
	runtime.LockOSThread() // the loader's message is this thread's
	defer runtime.UnlockOSThread()
	handle := C.dlopen(text, C.RTLD_LAZY|C.RTLD_LOCAL)
	if handle == nil {
		return library{}, errors.New(C.GoString(C.dlerror()))
	}
	return library{handle}, nil
}

// symbol is the address of a function, or nil.
func (l library) symbol(name string) unsafe.Pointer {
	text := C.CString(name)
	defer C.free(unsafe.Pointer(text))
	return C.dlsym(l.handle, text)
}

// checkPlugin loads a PJRT plugin as go-xla will, and tells its version.
func checkPlugin(path string) (version string, err error) {
	l, err := load(path)
	if err != nil {
		return "", explainLoad(path, err.Error())
	}
	get := l.symbol("GetPjrtApi")
	if get == nil {
		return "", fmt.Errorf("%s is no PJRT plugin: it has no function GetPjrtApi", path)
	}
	api := C.get_api(get)
	if api == nil {
		return "", fmt.Errorf("%s is a PJRT plugin that gives no API", path)
	}
	return checkVersion(path, apiVersion{int(api.version.major), int(api.version.minor)}, int(api.size))
}

// cudaSystem is where the driver shows itself; tests put others in place.
type cudaSystem struct {
	devices string // pattern of the device files
	driver  string // the driver's library
}

func systemCUDA() cudaSystem { return cudaSystem{"/dev/nvidia*", "libcuda.so.1"} }

// check looks for all that CUDA needs from the system and describes the first device. path is the plugin's.
func (s cudaSystem) check(path string) (device string, err error) {
	if runtime.GOARCH != "amd64" && runtime.GOARCH != "arm64" {
		return "", fmt.Errorf("CUDA is there for Linux on x86-64 and arm64, this is %s", runtime.GOARCH)
	}
	if files, _ := filepath.Glob(s.devices); len(files) == 0 {
		return "", fmt.Errorf("no NVIDIA GPU: there is no %s; install NVIDIA's driver, or start the container with its GPUs "+
			"(docker run --gpus all)", s.devices)
	}
	driver, err := load(s.driver)
	if err != nil {
		return "", fmt.Errorf("NVIDIA's driver is not installed, or not for this container: %w", err)
	}
	name, version, err := driver.cuda()
	if err != nil {
		return "", err
	}
	if needed := cudaOfPlugin(path); version/1000 < needed {
		return "", fmt.Errorf("the driver supports CUDA up to %s, the plugin %s needs CUDA %d: update the driver, or take a "+
			"plugin for CUDA %d", cudaVersion(version), path, needed, version/1000)
	}
	return fmt.Sprintf("%s, driver for CUDA %s%s", name, cudaVersion(version), found(path, cuDNN)), nil
}

// cuda asks the driver for its first device and for the CUDA version it supports, 1000*major + 10*minor.
func (l library) cuda() (name string, version int, err error) {
	start, getCount := l.symbol("cuInit"), l.symbol("cuDeviceGetCount")
	getVersion, getName := l.symbol("cuDriverGetVersion"), l.symbol("cuDeviceGetName")
	if start == nil || getCount == nil || getVersion == nil || getName == nil {
		return "", 0, errors.New("NVIDIA's driver library lacks functions of CUDA: install the driver anew")
	}
	if code := C.init(start); code != 0 {
		return "", 0, fmt.Errorf("NVIDIA's driver does not start: CUDA error %d%s; nvidia-smi may tell more", int(code),
			l.cudaText(code))
	}
	var count, v C.int
	if code := C.get_int(getCount, &count); code != 0 || count == 0 {
		return "", 0, fmt.Errorf("NVIDIA's driver sees no device (CUDA error %d%s): CUDA_VISIBLE_DEVICES is %q", int(code),
			l.cudaText(code), os.Getenv("CUDA_VISIBLE_DEVICES"))
	}
	if code := C.get_int(getVersion, &v); code != 0 {
		return "", 0, fmt.Errorf("NVIDIA's driver does not tell its version: CUDA error %d%s", int(code), l.cudaText(code))
	}
	var text [256]C.char
	if code := C.get_name(getName, &text[0], C.int(len(text))); code != 0 {
		return "", 0, fmt.Errorf("NVIDIA's driver does not name its device: CUDA error %d%s", int(code), l.cudaText(code))
	}
	return C.GoString(&text[0]), int(v), nil
}

// cudaText is the driver's name of an error, in parentheses.
func (l library) cudaText(code C.int) string {
	get := l.symbol("cuGetErrorName")
	var text *C.char
	if code == 0 || get == nil || C.get_text(get, code, &text) != 0 || text == nil {
		return ""
	}
	return " (" + C.GoString(text) + ")"
}

func cudaVersion(v int) string { return fmt.Sprintf("%d.%d", v/1000, v%1000/10) }

// cuDNN is the library behind fused attention and convolutions; JAX's plugins for CUDA 12 and 13 take version 9.
const cuDNN = "libcudnn.so.9"

// found says where a library is that a plugin will look for, or that it is nowhere to be seen.
func found(path, name string) string {
	for _, dir := range append(aroundPlugin(path), filepath.SplitList(os.Getenv("LD_LIBRARY_PATH"))...) {
		if _, err := os.Stat(filepath.Join(dir, name)); err == nil {
			return ", " + name + " in " + dir
		}
	}
	if _, err := load(name); err == nil {
		return ", " + name + " from the system"
	}
	return fmt.Sprintf(", %s not found beside the plugin or in LD_LIBRARY_PATH", name)
}

// cudaOfPlugin is the CUDA version that JAX's wheels have in their directory's name, and 0 elsewhere.
func cudaOfPlugin(path string) int {
	for _, version := range []int{12, 13} {
		if strings.Contains(path, fmt.Sprintf("cuda%d", version)) {
			return version
		}
	}
	return 0
}
