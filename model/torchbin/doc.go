// Package torchbin reads the tensors of a PyTorch .bin file: a state dict saved by torch.save, in its zip format or the
// older one. The pickle inside is run by gopickle's machine, which is given nothing but tensors, storages and
// dictionaries: any other class is an error and none of its code exists here. Tensors keep their stored type, and those
// that lie contiguous in the file are not copied.
package torchbin
