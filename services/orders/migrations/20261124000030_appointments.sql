-- migrate:up
CREATE EXTENSION IF NOT EXISTS btree_gist;

-- Until how many hours before its start a customer may still move or cancel an appointment.
ALTER TABLE bookable_services ADD policy_hours integer NOT NULL DEFAULT 24 CHECK (policy_hours >= 0);

CREATE TABLE staff_members (
    id        uuid    PRIMARY KEY DEFAULT uuidv7(),
    name      text    NOT NULL CHECK (name <> ''),
    -- IANA. Opening hours are on this clock, so that they stay where they are when it is changed in spring and autumn.
    time_zone text    NOT NULL,
    active    boolean NOT NULL DEFAULT true
);

CREATE TABLE staff_services (
    staff_id   uuid NOT NULL REFERENCES staff_members ON DELETE CASCADE,
    service_id uuid NOT NULL REFERENCES bookable_services ON DELETE CASCADE,
    PRIMARY KEY (staff_id, service_id)
);

CREATE TABLE opening_hours (
    staff_id uuid     NOT NULL REFERENCES staff_members ON DELETE CASCADE,
    weekday  smallint NOT NULL CHECK (weekday BETWEEN 1 AND 7),  -- ISO 8601: 1 is Monday
    opens    time     NOT NULL,
    closes   time     NOT NULL CHECK (closes > opens),
    PRIMARY KEY (staff_id, weekday, opens)
);

CREATE TABLE time_off (
    id       uuid      PRIMARY KEY DEFAULT uuidv7(),
    staff_id uuid      NOT NULL REFERENCES staff_members ON DELETE CASCADE,
    during   tstzrange NOT NULL CHECK (NOT isempty(during)),
    reason   text      NOT NULL DEFAULT ''
);
CREATE INDEX time_off_staff ON time_off USING gist (staff_id, during);

CREATE TABLE appointments (
    id             uuid        PRIMARY KEY DEFAULT uuidv7(),
    service_id     uuid        NOT NULL REFERENCES bookable_services,
    staff_id       uuid        NOT NULL REFERENCES staff_members,
    customer_id    uuid,
    email          text        NOT NULL,
    customer_name  text        NOT NULL DEFAULT '',
    pet_name       text        NOT NULL DEFAULT '',
    note           text        NOT NULL DEFAULT '',
    starts_at      timestamptz NOT NULL,
    ends_at        timestamptz NOT NULL CHECK (ends_at > starts_at),
    during         tstzrange   GENERATED ALWAYS AS (tstzrange(starts_at, ends_at)) STORED,
    status         text        NOT NULL DEFAULT 'booked'
                               CHECK (status IN ('booked', 'cancelled', 'completed', 'no_show')),
    -- Counts changes, as iCalendar wants it.
    sequence       integer     NOT NULL DEFAULT 0,
    correlation_id text        NOT NULL,
    created_at     timestamptz NOT NULL DEFAULT now(),
    changed_at     timestamptz NOT NULL DEFAULT now(),
    -- The promise that nobody is booked twice, where no code can break it.
    CONSTRAINT never_double_booked EXCLUDE USING gist (staff_id WITH =, during WITH &&) WHERE (status = 'booked')
);
CREATE INDEX appointments_of_customer ON appointments (customer_id, id DESC) WHERE customer_id IS NOT NULL;
CREATE INDEX appointments_coming ON appointments (starts_at) WHERE status = 'booked';

CREATE TABLE appointment_events (
    id             bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    appointment_id uuid        NOT NULL REFERENCES appointments ON DELETE CASCADE,
    status         text        NOT NULL,
    reason         text        NOT NULL,
    actor          text        NOT NULL,
    correlation_id text        NOT NULL,
    at             timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX appointment_events_of ON appointment_events (appointment_id, id);

-- One reminder per appointment, kind and time: moved to another time, it is reminded of anew.
CREATE TABLE appointment_reminders (
    appointment_id uuid        NOT NULL REFERENCES appointments ON DELETE CASCADE,
    hours          integer     NOT NULL CHECK (hours IN (24, 2)),
    starts_at      timestamptz NOT NULL,
    queued_at      timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (appointment_id, hours, starts_at)
);

INSERT INTO staff_members (name, time_zone) VALUES ('Jordan', 'America/Los_Angeles'), ('Sam', 'America/Los_Angeles');
INSERT INTO staff_services (staff_id, service_id) SELECT m.id, s.id FROM staff_members m CROSS JOIN bookable_services s;
INSERT INTO opening_hours (staff_id, weekday, opens, closes)
SELECT m.id, day, hours.opens, hours.closes
  FROM staff_members m CROSS JOIN generate_series(1, 5) AS day
       CROSS JOIN (VALUES (time '09:00', time '12:30'), (time '13:30', time '18:00')) AS hours (opens, closes);
INSERT INTO opening_hours (staff_id, weekday, opens, closes)
SELECT id, 6, '10:00', '16:00' FROM staff_members WHERE name = 'Jordan';

-- migrate:down
-- Forward only: the next change is another migration.
