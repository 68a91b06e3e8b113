// Decoder of a raw LZMA1 stream (lc 3, lp 0, pb 2), as web/build.mjs makes one of each build of the engine. A WebAssembly module of its
// own, small, run before the engine: in JavaScript, which starts out interpreted, the same loop took 18 ms of the start where this takes 8.
// Format: Igor Pavlov, "LZMA specification" (in the LZMA SDK, public domain). The input is the package's own, so nothing is checked but the
// end of the output; what is wrong with it, WebAssembly.compile finds.
typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;

enum { LC = 3, POS_STATES = 4, STATES = 12 };
// Lengths are 2 to 9, 10 to 17 or 18 to 273: two choices, then a tree of 3 or 8 bits; the short ones by position.
typedef struct { u16 choice[2], low[POS_STATES][8], middle[POS_STATES][8], high[256]; } lengths;

/** Adaptive probabilities of a 0, in 1/2048. */
static struct {
  u16 match[STATES][POS_STATES], rep[STATES], rep0[STATES], rep1[STATES], rep2[STATES], longer[STATES][POS_STATES];
  u16 slot[4][64], distance[14][32], align[16];
  lengths first, again;
  u16 literal[1 << LC][3][256];
} probs;

static const u8 *in;
static u32 range, code;

static void refill(void) {
  if (range < 1u << 24) {
    range <<= 8;
    code = code << 8 | *in++;
  }
}

static u32 bit(u16 *p) {
  u32 bound = (range >> 11) * *p, one = code >= bound;
  if (one) {
    range -= bound;
    code -= bound;
    *p -= *p >> 5;
  } else {
    range = bound;
    *p += (2048 - *p) >> 5;
  }
  refill();
  return one;
}

/** A number of so many bits, the highest first, or, reversed, the lowest first. */
static u32 tree(u16 *p, int bits, int reversed) {
  u32 node = 1, low_first = 0;
  for (int i = 0; i < bits; i++) {
    u32 b = bit(p + node);
    node = node << 1 | b;
    low_first |= b << i;
  }
  return reversed ? low_first : node - (1u << bits);
}

static u32 length(lengths *p, u32 at) {
  if (!bit(p->choice)) return 2 + tree(p->low[at], 3, 0);
  if (!bit(p->choice + 1)) return 10 + tree(p->middle[at], 3, 0);
  return 18 + tree(p->high, 8, 0);
}

static u32 distance(u32 length) {
  u32 slot = tree(probs.slot[length < 5 ? length - 2 : 3], 6, 0);
  if (slot < 4) return slot;
  int bits = (int)(slot >> 1) - 1;
  u32 high = (2 | (slot & 1)) << bits;
  if (slot < 14) return high + tree(probs.distance[slot], bits, 1);
  u32 middle = 0;
  for (bits -= 4; bits > 0; bits--) {
    range >>= 1;
    u32 one = code >= range;
    if (one) code -= range;
    middle = middle << 1 | one;
    refill();
  }
  return high + (middle << 4) + tree(probs.align, 4, 1);
}

/** A byte in the context of the one before and, after a match, of the one that the match would have gone on with. */
static u8 literal(u16 (*p)[256], int matched, u32 expected) {
  u32 node = 1;
  while (node < 256) {
    u32 guess = expected >> 7 & 1, b = bit(&p[matched ? 1 + guess : 0][node]);
    expected <<= 1;
    node = node << 1 | b;
    if (b != guess) matched = 0;
  }
  return (u8)node;
}

/** `packed` to the `size` bytes at `out`. */
void unpack(const u8 *packed, u8 *out, u32 size);
void unpack(const u8 *packed, u8 *out, u32 size) {
  for (u16 *p = (u16 *)&probs; p < (u16 *)(&probs + 1); p++) *p = 1024;
  in = packed + 1;   // the first is 0
  range = ~0u;
  code = 0;
  for (int i = 0; i < 4; i++) code = code << 8 | *in++;
  u32 state = 0, d[4] = {1, 1, 1, 1};   // what came last: 0 to 6 a literal, above a match; the last distances
  for (u32 n = 0; n < size;) {
    u32 at = n % POS_STATES, after_match = state >= 7, count;
    if (!bit(&probs.match[state][at])) {
      out[n] = literal(probs.literal[n ? out[n - 1] >> (8 - LC) : 0], (int)after_match, after_match ? out[n - d[0]] : 0);
      n++;
      state = state < 4 ? 0 : state < 10 ? state - 3 : state - 6;
      continue;
    }
    if (!bit(&probs.rep[state])) {
      count = length(&probs.first, at);
      d[3] = d[2];
      d[2] = d[1];
      d[1] = d[0];
      d[0] = distance(count) + 1;
      state = after_match ? 10 : 7;
    } else {
      count = 0;
      if (!bit(&probs.rep0[state])) {
        if (!bit(&probs.longer[state][at])) count = 1;
      } else {
        u32 which = !bit(&probs.rep1[state]) ? 1 : 2 + bit(&probs.rep2[state]), again = d[which];
        for (; which; which--) d[which] = d[which - 1];
        d[0] = again;
      }
      state = (count ? 9 : 8) + (after_match ? (count ? 2 : 3) : 0);
      if (!count) count = length(&probs.again, at);
    }
    for (u32 end = n + count; n < end && n < size; n++) out[n] = out[n - d[0]];
  }
}
