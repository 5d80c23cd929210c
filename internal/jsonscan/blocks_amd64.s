//go:build !purego

#include "textflag.h"

// FILL fills the register x with the byte that c repeats.
#define FILL(c, x) \
	MOVQ       $c, AX \
	MOVQ       AX, x  \
	PUNPCKLQDQ x, x

// UNCOMMON marks in bad the bytes that are not common text of the 16 at SI+at: a quote must
// have a backslash before it, n and t may, control characters never, and others must not.
#define UNCOMMON(at, bad, x, escaped, t) \
	MOVOU   at-1(SI), escaped \
	PCMPEQB X8, escaped       \
	MOVOU   at(SI), x         \
	MOVO    x, t              \
	PCMPEQB X9, t             \
	PXOR    t, escaped        \
	MOVO    x, bad            \
	PCMPEQB X10, bad          \
	MOVO    x, t              \
	PCMPEQB X11, t            \
	POR     t, bad            \
	PANDN   escaped, bad      \
	MOVO    x, t              \
	PMINUB  X12, t            \
	PCMPEQB x, t              \
	POR     t, bad

// func commonBlocks(d []byte, i, n int) int
TEXT ·commonBlocks(SB), NOSPLIT, $0-48
	MOVQ d_base+0(FP), SI
	ADDQ i+24(FP), SI
	MOVQ n+32(FP), CX
	FILL(0x5c5c5c5c5c5c5c5c, X8)  // backslash
	FILL(0x2222222222222222, X9)  // quote
	FILL(0x6e6e6e6e6e6e6e6e, X10) // n
	FILL(0x7474747474747474, X11) // t
	FILL(0x1f1f1f1f1f1f1f1f, X12)
	XORQ AX, AX

next:
	CMPQ     AX, CX
	JGE      done
	UNCOMMON(0, X0, X1, X2, X3)
	UNCOMMON(16, X4, X5, X6, X7)
	POR      X4, X0
	PMOVMSKB X0, DX
	TESTL    DX, DX
	JNZ      done
	ADDQ     $32, SI
	INCQ     AX
	JMP      next

done:
	MOVQ AX, ret+40(FP)
	RET
