// Package bench embeds peer.py, the training step as a PyTorch user would write it, against which transplant-bench
// measures this program. The script also runs by itself: python3 scripts/bench/peer.py.
package bench

import _ "embed" // for Peer

// Peer is the text of the script.
//
//go:embed peer.py
var Peer string
