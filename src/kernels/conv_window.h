/* How a convolution's window goes over an image of c channels, h x w, to make out_h x out_w pixels: from pad_h rows above the image and pad_w
 * columns left of it; how far below and to the right follows from out_h and out_w. */
#pragma once
#include <stddef.h>

typedef struct conv_window {
    size_t h, w, c, out_h, out_w;
    size_t kernel_h, kernel_w, stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w;
} conv_window;
