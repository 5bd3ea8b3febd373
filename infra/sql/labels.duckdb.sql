-- DuckDB over a bucket's results, or a copy of them: one row per photo, whether parts have been
-- merged or not. Put the bucket's name in place of RESULTS; `INSTALL httpfs; LOAD httpfs;` reads
-- from S3.
CREATE OR REPLACE VIEW lines AS
SELECT CAST(json AS varchar) AS line
FROM read_json_objects('s3://RESULTS/labels/**/*.jsonl', format = 'newline_delimited');

CREATE OR REPLACE VIEW labels AS
WITH marked AS (
  SELECT
    line,
    coalesce(json_extract_string(line, '$.labeler.gone'), '') AS gone_until,
    coalesce(json_extract_string(line, '$.failure.code'), '') = 'gone' AS packed
  FROM lines
),
unpacked AS (
  SELECT
    *,
    CASE WHEN packed THEN regexp_extract(line, '"row":\s*(\{.*)', 1) ELSE line END AS body
  FROM marked
),
parsed AS (
  SELECT
    line,
    body,
    packed,
    gone_until,
    json_extract_string(line, '$."source-ref"') AS source_ref,
    nullif(json_extract_string(line, '$.labeler.etag'), '') AS etag,
    nullif(json_extract_string(line, '$.labeler."version-id"'), '') AS version_id,
    rpad(upper(nullif(json_extract_string(line, '$.labeler.sequencer'), '')), 64, '0') AS sequencer,
    nullif(json_extract_string(line, '$.labeler."last-modified"'), '') AS last_modified,
    json_extract_string(line, '$.labeler.size') AS size,
    coalesce(json_extract_string(line, '$.labeler."model-version"'), '') AS model_version,
    coalesce(
      CASE WHEN packed THEN json_extract_string(line, '$.labeler.row.labeler.withdrawn')
        ELSE json_extract_string(line, '$.labeler.withdrawn') END, ''
    ) AS withdrawn,
    coalesce(regexp_extract(body, '"creation-date":\s*"([^"]*)"', 1), '') AS created,
    coalesce(regexp_extract(body, '"human-annotated":\s*"([^"]*)"', 1), '') = 'yes' AS by_person,
    CASE WHEN packed THEN json_extract(line, '$.labeler.row.failure')
      ELSE json_extract(line, '$.failure') END IS NOT NULL AS is_failure,
    nullif(regexp_extract(body, '"class-name":\s*("(?:[^"\\]|\\.)*")', 1), '') AS class_name
  FROM unpacked
),
contents AS (
  SELECT source_ref, etag, min(line) AS first_line FROM parsed
  WHERE etag IS NOT NULL GROUP BY source_ref, etag
),
matched AS (
  SELECT unnamed.source_ref, unnamed.line, arg_min(named.etag, contents.first_line) AS etag
  FROM parsed AS unnamed
  JOIN parsed AS named
    ON named.source_ref = unnamed.source_ref AND named.etag IS NOT NULL
    AND CASE
      WHEN named.sequencer IS NOT NULL AND unnamed.sequencer IS NOT NULL
        THEN named.sequencer = unnamed.sequencer
      WHEN named.version_id IS NOT NULL AND unnamed.version_id IS NOT NULL
        THEN named.version_id = unnamed.version_id
      ELSE named.last_modified = unnamed.last_modified
        AND named.size IS NOT DISTINCT FROM unnamed.size
    END
  JOIN contents ON contents.source_ref = named.source_ref AND contents.etag = named.etag
  WHERE unnamed.etag IS NULL
  GROUP BY unnamed.source_ref, unnamed.line
),
versioned AS (
  SELECT
    parsed.*,
    coalesce(parsed.etag, matched.etag) AS content,
    coalesce(
      parsed.etag, matched.etag,
      'date ' || parsed.last_modified || ' ' || coalesce(parsed.size, ''),
      'event ' || parsed.sequencer, 'version ' || parsed.version_id, 'unnamed'
    ) AS version
  FROM parsed
  LEFT JOIN matched ON matched.source_ref = parsed.source_ref AND matched.line = parsed.line
),
versions AS (
  SELECT
    source_ref, version,
    max(sequencer) AS sequencer,
    coalesce(
      max(CASE WHEN NOT is_failure THEN coalesce(last_modified, '') END),
      max(last_modified), ''
    ) AS last_modified,
    min(created) AS first_created,
    max(CASE WHEN by_person THEN '' ELSE withdrawn END) AS withdrawn,
    max(gone_until) AS gone_until,
    min(line) AS first_line
  FROM versioned GROUP BY source_ref, version
),
ordered AS (
  SELECT
    *,
    count(*) OVER (PARTITION BY source_ref)
      = count(sequencer) OVER (PARTITION BY source_ref) AS by_event
  FROM versions
),
ranked AS (
  SELECT
    versioned.*,
    ordered.gone_until <> '' AND ordered.last_modified <= ordered.gone_until AS gone,
    row_number() OVER (
      PARTITION BY versioned.source_ref
      ORDER BY
        CASE WHEN by_event THEN ordered.sequencer ELSE ordered.last_modified END DESC,
        CASE WHEN by_event THEN '' ELSE ordered.first_created END DESC,
        coalesce(ordered.sequencer, '') DESC,
        ordered.first_line,
        CASE
          WHEN NOT by_person THEN 1
          WHEN ordered.withdrawn = '' OR created > ordered.withdrawn THEN 0
          ELSE 2
        END,
        CASE WHEN by_person THEN created ELSE '' END DESC,
        CASE WHEN by_person THEN line ELSE '' END DESC,
        CASE WHEN is_failure THEN 1 WHEN class_name IS NULL THEN 2 ELSE 0 END,
        model_version DESC,
        created,
        line
    ) AS place
  FROM versioned
  JOIN ordered
    ON ordered.source_ref = versioned.source_ref AND ordered.version = versioned.version
)
SELECT
  source_ref,
  CASE WHEN NOT is_failure
    THEN json_extract_string('[' || class_name || ']', '$[0]') END AS label,
  CAST(nullif(regexp_extract(body, '"confidence":\s*([-+0-9.eE]+)', 1), '') AS double) AS confidence,
  CAST(
    CASE WHEN packed THEN json_extract_string(line, '$.labeler.row.labeler.probability')
      ELSE json_extract_string(line, '$.labeler.probability') END AS double
  ) AS probability,
  by_person,
  coalesce(
    CASE WHEN packed THEN json_extract_string(line, '$.labeler.row.labeler."needs-review"')
      ELSE json_extract_string(line, '$.labeler."needs-review"') END, 'false'
  ) = 'true' AS needs_review,
  CASE WHEN packed THEN json_extract_string(line, '$.labeler.row.failure.code')
    ELSE json_extract_string(line, '$.failure.code') END AS failure,
  CASE WHEN packed THEN json_extract_string(line, '$.labeler.row.failure.message')
    ELSE json_extract_string(line, '$.failure.message') END AS failure_message,
  model_version,
  content AS etag,
  created
FROM ranked
WHERE place = 1 AND NOT gone;
