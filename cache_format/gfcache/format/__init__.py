"""The .gfc file: header, rules, reader, writer."""
