// Package bench embeds what transplant-bench measures this program against: peer.py, the training step and generation as a
// PyTorch user would write them, and peer.c, generation in a file of plain C. Both also run by themselves.
package bench

import _ "embed" // for the texts

// Peer is the text of the Python script.
//
//go:embed peer.py
var Peer string

// PeerC is the text of the C program.
//
//go:embed peer.c
var PeerC string
