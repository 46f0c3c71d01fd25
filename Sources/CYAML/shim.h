#pragma once
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

/* libyaml's events are unions of structs without names, which Swift cannot read; these give what the events have in
   common. A null pointer stands for what an event lacks. */

typedef struct {
  yaml_parser_t parser;
  yaml_event_t event;
} lora_yaml;

/* Returns NULL where there is no memory. The text must outlive the reader. */
static inline lora_yaml *lora_yaml_open(const unsigned char *text, size_t size) {
  lora_yaml *reader = calloc(1, sizeof *reader);
  if (reader == NULL) return NULL;
  if (!yaml_parser_initialize(&reader->parser)) {
    free(reader);
    return NULL;
  }
  yaml_parser_set_input_string(&reader->parser, text, size);
  return reader;
}

static inline void lora_yaml_close(lora_yaml *reader) {
  yaml_event_delete(&reader->event);
  yaml_parser_delete(&reader->parser);
  free(reader);
}

/* Moves to the next event; returns 0 for malformed text. */
static inline int lora_yaml_next(lora_yaml *reader) {
  yaml_event_delete(&reader->event);
  return yaml_parser_parse(&reader->parser, &reader->event);
}

static inline const char *lora_yaml_anchor(const lora_yaml *reader) {
  switch (reader->event.type) {
    case YAML_ALIAS_EVENT: return (const char *)reader->event.data.alias.anchor;
    case YAML_SCALAR_EVENT: return (const char *)reader->event.data.scalar.anchor;
    case YAML_SEQUENCE_START_EVENT: return (const char *)reader->event.data.sequence_start.anchor;
    case YAML_MAPPING_START_EVENT: return (const char *)reader->event.data.mapping_start.anchor;
    default: return NULL;
  }
}

static inline const char *lora_yaml_tag(const lora_yaml *reader) {
  switch (reader->event.type) {
    case YAML_SCALAR_EVENT: return (const char *)reader->event.data.scalar.tag;
    case YAML_SEQUENCE_START_EVENT: return (const char *)reader->event.data.sequence_start.tag;
    case YAML_MAPPING_START_EVENT: return (const char *)reader->event.data.mapping_start.tag;
    default: return NULL;
  }
}

static inline const unsigned char *lora_yaml_text(const lora_yaml *reader) {
  return reader->event.type == YAML_SCALAR_EVENT ? reader->event.data.scalar.value : NULL;
}

static inline size_t lora_yaml_text_size(const lora_yaml *reader) {
  return reader->event.type == YAML_SCALAR_EVENT ? reader->event.data.scalar.length : 0;
}

static inline int lora_yaml_is_plain(const lora_yaml *reader) {
  return reader->event.type == YAML_SCALAR_EVENT && reader->event.data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
}
