#include "text.h"
#include "graph.h"

typedef struct writer { char *at, *end; } writer;

static void put(writer *w, const char *s) {
    while (*s && w->at < w->end) *w->at++ = *s++;
}

static void put_int(writer *w, int value) {
    char digits[12];
    char *d = digits + sizeof digits - 1;
    unsigned rest = value < 0 ? 0u - (unsigned)value : (unsigned)value;
    *d = 0;
    do *--d = (char)('0' + rest % 10); while (rest /= 10);
    if (value < 0) *--d = '-';
    put(w, d);
}

static void put_shape(writer *w, const lam_shape *shape) {
    put(w, "[");
    for (int i = 0; i < shape->rank; i++) {
        if (i) put(w, ", ");
        if (shape->dims[i] == LAM_ANY) put(w, "?");
        else put_int(w, shape->dims[i]);
    }
    put(w, "]");
}

void text_format_list(char *text, size_t size, const char *format, va_list arguments) {
    writer w = { text, text + size - 1 };
    for (; *format; format++) {
        if (*format != '%') {
            put(&w, (char[]){ *format, 0 });
            continue;
        }
        switch (*++format) {
        case 's': put(&w, va_arg(arguments, const char *)); break;
        case 'd': put_int(&w, va_arg(arguments, int)); break;
        case 'v': put_shape(&w, va_arg(arguments, const lam_shape *)); break;
        default: put(&w, "%"); break;
        }
    }
    *w.at = 0;
}

void text_format(char *text, size_t size, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    text_format_list(text, size, format, arguments);
    va_end(arguments);
}
